//! Descriptors across a takeover: the application `descriptors`, asked over UDP what it has open.

use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::inside::{Ground, READY_LIMIT, take_over};
use crate::guest_build::{self, Variant};

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
    client.expect("free", |answer| answer == "8")?;
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

    fn ask(&self, question: &str) -> Result<String> {
        self.socket.send_to(question.as_bytes(), self.service)?;
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
