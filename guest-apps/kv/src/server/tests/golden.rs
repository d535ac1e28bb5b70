//! Replays what was recorded from a real redis-server: see `tests/record_golden.py` for the format.

use super::{Heap, Rig, command};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

fn unescape(text: &str) -> Heap<u8> {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, used) = match (first, tail) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'x', high, low, ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap() as u8;
                (digit(high) * 16 + digit(low), 4)
            }
            (b'\\', [literal, ..]) => (*literal, 2),
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    bytes
}

/// Words apart by blanks, or in double quotes.
fn words(line: &str) -> Heap<Heap<u8>> {
    let mut words = vec![];
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("quotes are closed"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(unescape(word));
        rest = tail.trim_start();
    }
    words
}

/// Client numbers differ.
fn without_id(reply: &[u8]) -> String {
    let text = reply.escape_ascii().to_string();
    match text.split_once("$2\\r\\nid\\r\\n:") {
        Some((before, after)) => {
            let (_, after) = after.split_once("\\r\\n").unwrap();
            format!("{before}{after}")
        }
        None => text,
    }
}

fn replay(transcript: &str) -> usize {
    let mut exchanges = 0;
    let mut rig = Rig::new(64 * 1024);
    let mut client = 0;
    let mut scenario = "";
    let mut lines = transcript.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("== ") {
            scenario = name;
            rig = Rig::new(64 * 1024);
            client = rig.network.connect();
            continue;
        }
        let bytes = if let Some(line) = line.strip_prefix("> ") {
            let words = words(line);
            let words: Heap<&[u8]> = words.iter().map(Heap::as_slice).collect();
            command(&words)
        } else if let Some(line) = line.strip_prefix("raw> ") {
            unescape(line)
        } else {
            continue;
        };
        let expected = lines
            .next_if(|line| line.starts_with("< "))
            .map_or(vec![], |line| unescape(&line[2..]));
        let closed = lines.next_if(|line| *line == "closed").is_some();
        let reply = rig.exchange(client, &bytes);
        assert_eq!(without_id(&reply), without_id(&expected), "{scenario}: {line}");
        assert_eq!(rig.network.is_closed(client), closed, "{scenario}: {line}");
        exchanges += 1;
    }
    exchanges
}

#[test]
fn the_protocol_is_that_of_redis() {
    assert!(replay(include_str!("../../../tests/golden/protocol.txt")) > 30);
}

#[test]
fn the_commands_are_those_of_redis() {
    assert!(replay(include_str!("../../../tests/golden/commands.txt")) > 200);
}

#[test]
fn the_errors_are_those_of_redis() {
    assert!(replay(include_str!("../../../tests/golden/errors.txt")) > 150);
}

/// The comparison must be able to fail.
#[test]
#[should_panic(expected = "planted")]
fn a_wrong_reply_is_noticed() {
    replay("== planted\n> PING\n< +PING\\r\\n\n");
}
