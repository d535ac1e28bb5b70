//! Descriptors across a takeover: the application `descriptors`, asked over UDP what it has open.

use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::inside::{Ground, READY_LIMIT, take_over};
use crate::disk;
use crate::guest_build::{self, Variant};
use crate::pair::{Ingredients, Pair};

/// How long an answer may take, and after which time a question without one is asked again, where that changes nothing.
const LIMIT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);
/// Where the application's second socket is.
const PUSH_PORT: u16 = 7071;

/// Same numbers, paths, modes, offsets, names and peers on the next master, and all of it works: what was not registered is
/// gone.
pub(super) fn takeover(ground: &Ground) -> Result<String> {
    let image = guest_build::image("descriptors", Variant::Usual);
    let mut pair = ground.pair_of([image.clone(), image], &[], None)?;
    pair.wait_until_ready(READY_LIMIT)?;
    let service = SocketAddr::from((ground.plan.service.address, ground.plan.app("descriptors")?.port));
    let client = Client::new(ground, service)?;
    client.expect("write alpha beta", |answer| {
        answer.contains("offset 10 noted 10 of 10")
    })?;
    client.expect("seek 6", |answer| answer.contains("offset 6 noted 6 of 10"))?;
    let state = client.ask("peer")?;
    let address = service.ip();
    let expected = format!(
        "file 4 STATE/LOG.TXT mode 3 offset 6 noted 6 of 10; socket 5 {service}; push 6 {address}:{PUSH_PORT} to {}; listener 7",
        client.socket.local_addr()?
    );
    ensure!(state == expected, "it has {state:?}, not {expected:?}");
    client.expect("sync", |answer| answer == state)?;
    client.expect("free", |answer| answer == "9")?;
    client.push("before")?;
    greeted(service, &state)?;

    // Every answer said that the spare knows.
    let took = take_over(&mut pair)?;
    let found = client.ask_until_answered("state")?;
    ensure!(
        found == state,
        "after the takeover it has {found:?}, not {state:?}"
    );
    client.push("after")?;
    greeted(service, &state)?;
    client.expect("free", |answer| answer == "3")?;
    client.expect("read", |answer| answer == "beta")?;
    client.expect("write  gamma", |answer| {
        answer.contains("offset 16 noted 16 of 16")
    })?;
    client.expect("seek 0", |answer| answer.contains("offset 0 noted 0 of 16"))?;
    client.expect("read", |answer| answer == "alpha beta gamma")?;
    while pair.next(Instant::now()).is_some() {}
    pair.end();
    Ok(took)
}

/// Lines that are written; so many before the master dies are asked for one by one, and then so many at once.
const LINES: u64 = 400;
const LINES_ALONE: u64 = 100;
const LINES_AT_ONCE: u64 = 100;

/// Lines that are appended to a file while the master dies: the next one goes on where it is in its own count, and in the end
/// each line is on the disk, once.
pub(super) fn files(ground: &Ground) -> Result<String> {
    let image = guest_build::image("descriptors", Variant::Usual);
    let disk = Arc::new(disk::scratch(disk::MIB_DEFAULT)?);
    let mut pair = Pair::start(&Ingredients {
        disk: Some(Arc::clone(&disk)),
        ..ground.ingredients(&[], [image.clone(), image])?
    })?;
    pair.wait_until_ready(READY_LIMIT)?;
    let client = Client::new(ground, ground.service_of("descriptors")?)?;
    let mut lines = 0;
    while lines < LINES_ALONE {
        lines = client.line(lines + 1)?;
        while pair.next(Instant::now()).is_some() {}
    }
    // Nobody knows how many of these are written, and how many of those the spare knows of.
    for line in 1..=LINES_AT_ONCE {
        client.send(&format!("line {}", LINES_ALONE + line))?;
    }
    while lines < LINES_ALONE + LINES_AT_ONCE / 4 {
        lines = lines.max(client.hear(client.service.port())?.parse()?);
    }
    let took = take_over(&mut pair)?;
    let survived: u64 = client.ask_until_answered("line 0")?.parse()?;
    ensure!(
        (lines..=LINES_ALONE + LINES_AT_ONCE).contains(&survived),
        "line {lines} was answered, and the next master counts {survived}"
    );
    let mut lines = survived;
    while lines < LINES {
        lines = client.line(lines + 1)?;
        while pair.next(Instant::now()).is_some() {}
    }
    client.ask("sync")?;
    pair.end();
    let found = String::from_utf8(disk::contents(&disk, "STATE/LINES.TXT")?)?;
    let expected: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    if let Some((index, (found, expected))) =
        (found.lines().zip(expected.lines()).enumerate()).find(|(_, (found, expected))| found != expected)
    {
        bail!(
            "line {} of the file is {found:?}, not {expected:?}; the next master counted {survived}",
            index + 1
        );
    }
    ensure!(
        found == expected,
        "the file has {} bytes, not {}",
        found.len(),
        expected.len()
    );
    Ok(format!(
        "{LINES} lines, {survived} of them before the takeover; {took}"
    ))
}

/// A client's UDP socket.
struct Client {
    socket: UdpSocket,
    service: SocketAddr,
}

impl Client {
    fn new(ground: &Ground, service: SocketAddr) -> Result<Self> {
        // Not connected: the application's second socket speaks from another port.
        let socket = UdpSocket::bind((ground.plan.service.host, 0))?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self { socket, service })
    }

    /// The next datagram, which must be from `port`.
    fn hear(&self, port: u16) -> std::io::Result<String> {
        let mut bytes = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut bytes)?;
        if from.port() != port {
            return Err(std::io::Error::other(format!(
                "a datagram came from {from}, not from port {port}"
            )));
        }
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    fn send(&self, question: &str) -> Result<()> {
        self.socket.send_to(question.as_bytes(), self.service)?;
        Ok(())
    }

    /// Asks for line `number` to be written, and returns how many there are.
    fn line(&self, number: u64) -> Result<u64> {
        Ok(self.ask(&format!("line {number}"))?.parse()?)
    }

    fn ask(&self, question: &str) -> Result<String> {
        self.send(question)?;
        self.hear(self.service.port())
            .with_context(|| format!("no answer to {question:?}"))
    }

    /// Asks again and again: nobody may have had the address for a moment.
    fn ask_until_answered(&self, question: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        self.socket.set_read_timeout(Some(AGAIN))?;
        let answer = loop {
            match self.ask(question) {
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {}
                Ok(answer) => break answer,
            }
        };
        // What was asked twice may be answered twice.
        while self.hear(self.service.port()).is_ok() {}
        self.socket.set_read_timeout(Some(LIMIT))?;
        Ok(answer)
    }

    fn expect(&self, question: &str, is_right: impl Fn(&str) -> bool) -> Result<()> {
        let answer = self.ask(question)?;
        ensure!(is_right(&answer), "to {question:?} it answered {answer:?}");
        Ok(())
    }

    /// The application's second socket sends to the peer that it is connected to: to this.
    fn push(&self, text: &str) -> Result<()> {
        self.socket
            .send_to(format!("push {text}").as_bytes(), self.service)?;
        let heard = self.hear(PUSH_PORT).context("nothing was pushed")?;
        ensure!(heard == text, "{heard:?} was pushed, not {text:?}");
        Ok(())
    }
}

/// Connects by TCP and is greeted with the state.
fn greeted(service: SocketAddr, state: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&service, LIMIT).context("the listener cannot be reached")?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting)?;
    ensure!(greeting.trim_end() == state, "it greets with {greeting:?}");
    Ok(())
}
