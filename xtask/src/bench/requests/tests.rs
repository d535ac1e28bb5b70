use super::*;
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

/// A stand-in for `kv`: it counts keys up, and does it twice at every `doubling`th request, if at any.
fn stand_in(doubling: Option<u64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Arc::new(Mutex::new((0_u64, HashMap::<String, u64>::new())));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let counts = Arc::clone(&counts);
            thread::spawn(move || serve(stream.unwrap(), &counts, doubling));
        }
    });
    address
}

fn serve(stream: TcpStream, counts: &Mutex<(u64, HashMap<String, u64>)>, doubling: Option<u64>) {
    let mut client = Client {
        stream,
        rest: Vec::new(),
    };
    let mut words: Vec<String> = Vec::new();
    // Until the other end hangs up.
    while client.read().is_ok() {
        let mut replies = String::new();
        let whole = client.take_lines(|line| {
            words.push(String::from_utf8_lossy(line).into_owned());
            if words[0].starts_with("INFO") {
                replies += "$26\r\n# Hotspare\r\ncheckpoint:7\r\n\r\n";
                words.clear();
            } else if words.len() == 5 {
                let mut counts = counts.lock().unwrap();
                counts.0 += 1;
                let step = 1 + u64::from(doubling.is_some_and(|every| counts.0.is_multiple_of(every)));
                let count = counts.1.entry(words[4].clone()).or_default();
                *count += step;
                replies += &format!(":{count}\r\n");
                words.clear();
            }
            Ok(())
        });
        whole.unwrap();
        if client.stream.write_all(replies.as_bytes()).is_err() {
            return;
        }
    }
}

fn counters(count: usize) -> Vec<Counter> {
    (0..count)
        .map(|index| Counter::new(&format!("load:{index}")))
        .collect()
}

#[test]
fn one_client_counts_and_reads_a_figure() {
    let mut client = Client::connect(stand_in(None)).unwrap();
    let mut counter = Counter::new("one");
    for _ in 0..3 {
        client.count(&mut counter).unwrap();
    }
    assert_eq!(counter.value, 3);
    assert_eq!(client.figure("checkpoint").unwrap(), 7);
    assert!(client.figure("other").is_err());
}

#[test]
fn a_crowd_gets_all_its_replies_and_can_ask_again() {
    let mut crowd = Crowd::connect(stand_in(None), 5, 16).unwrap();
    let mut counters = counters(5);
    assert!(crowd.load(&mut counters, Duration::ZERO).unwrap() > 0.0);
    assert!(counters.iter().all(|counter| counter.value == 16));
    crowd.load(&mut counters, Duration::ZERO).unwrap();
    assert!(counters.iter().all(|counter| counter.value == 32));
}

#[test]
fn a_request_that_is_run_twice_is_found() {
    let mut crowd = Crowd::connect(stand_in(Some(20)), 2, 16).unwrap();
    let error = crowd.load(&mut counters(2), Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("INCR was answered with"), "{error}");
}
