//! A program of descriptors: files, UDP sockets, a TCP listener. Tests ask it over UDP what it has, before and after the
//! machine under it dies.
//!
//! Each datagram to its port is one request, answered by one datagram; the service stack holds the answer until the spare has
//! what it tells. A TCP connection is answered with the state and closed.
//!
//! ```text
//! state        the numbers, paths, offsets, names and peers of everything
//! write TEXT   writes it to the file at the offset
//! line N       appends a line to the other file, if N is the number of lines and one; answers with that number
//! sync         returns when both files are on the disk
//! seek N       moves the offset
//! read         reads from the offset to the end
//! peer         connects the second socket to whoever asks
//! push TEXT    sends it from the second socket to its peer, and answers nothing
//! free         the lowest number that nothing is open under
//! ```
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use core::net::SocketAddrV4;

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::registry::descriptor::{FileMode, UdpFlags};
use hs_core::registry::thread::{self, Work};
use hs_net::node::descriptors::{DescriptorError, Descriptors, Seek};
use hs_net::node::{Node, node, serve};
use kernel::Guest;

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-desc\x01");
const CLASS: ClassId = ClassId(1);
/// Where it is asked, by UDP, and answers by TCP.
const PORT: u16 = 7070;
/// Of the second socket.
const PUSH_PORT: u16 = 7071;
const PATH: &str = "STATE/LOG.TXT";
/// Of the other file.
const LINES_PATH: &str = "STATE/LINES.TXT";
/// Longest request, answer and rest of the file.
const TEXT_LEN_MAX: usize = 1024;

fn main(guest: &'static Guest) -> ! {
    let pair = guest.options().pair.as_ref();
    serve(guest, guest.memory(), pair, guest.nics(), APPLICATION, start)
}

/// The numbers, and what the program itself knows of its offset.
struct State {
    file: u32,
    socket: u32,
    push: u32,
    listener: u32,
    lines_file: u32,
    noted: u64,
    lines: u64,
}

/// Opens everything, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let class = Class::create(CLASS, 1 << 16).map_err(|error| error.to_string())?;
    let state = open(node.descriptors()).map_err(|error| error.to_string())?;
    let state =
        Box::try_new_in(state, class).map_err(|_| String::from("there is no memory for the state"))?;
    thread::register_state(Box::leak(state)).map_err(|error| error.to_string())
}

fn open(descriptors: Descriptors) -> Result<State, DescriptorError> {
    // Not registered: gone after a takeover, and its number free.
    descriptors.open_udp()?;
    let file = descriptors.open(PATH, FileMode::READ | FileMode::WRITE)?;
    let socket = descriptors.open_udp()?;
    descriptors.bind(socket, PORT)?;
    let push = descriptors.open_udp()?;
    descriptors.bind(push, PUSH_PORT)?;
    let listener = descriptors.listen(PORT, 4)?;
    let lines_file = descriptors.open(LINES_PATH, FileMode::APPEND)?;
    descriptors.register_file(file)?;
    descriptors.register_udp(socket, UdpFlags::GETNAME)?;
    descriptors.register_udp(push, UdpFlags::GETNAME | UdpFlags::GETPEER | UdpFlags::CPTREFRESH)?;
    descriptors.register_listener(listener)?;
    descriptors.register_file(lines_file)?;
    Ok(State {
        file,
        socket,
        push,
        listener,
        lines_file,
        noted: 0,
        lines: 0,
    })
}

impl Work for State {
    fn work(&'static mut self) {
        let node = node();
        loop {
            let seen = node.look();
            let answered = self.answer_all(node).unwrap_or_else(|error| {
                log::error!("{error}");
                true
            });
            // The answers wait until the spare has what they tell. A lone master answers all the same.
            node.keep(answered);
            node.rest(seen, None);
        }
    }
}

impl State {
    /// Answers all requests that are there, and says whether there were any.
    fn answer_all(&mut self, node: &'static Node) -> Result<bool, DescriptorError> {
        let descriptors = node.descriptors();
        let mut request = [0; TEXT_LEN_MAX];
        let mut answered = false;
        while let Some((len, from)) = descriptors.recv_from(self.socket, &mut request)? {
            answered = true;
            let words = core::str::from_utf8(&request[..len]).unwrap_or("");
            let answer = match self.obey(descriptors, words, from) {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                Err(error) => format!("error: {error}"),
            };
            descriptors.send_to(self.socket, from, answer.as_bytes())?;
        }
        self.greet(node);
        Ok(answered)
    }

    fn obey(
        &mut self,
        descriptors: Descriptors,
        request: &str,
        from: SocketAddrV4,
    ) -> Result<Option<String>, DescriptorError> {
        let (verb, rest) = request.split_once(' ').unwrap_or((request, ""));
        match verb {
            "state" => {}
            "write" => {
                descriptors.write(self.file, rest.as_bytes())?;
                self.noted += rest.len() as u64;
            }
            "seek" => self.noted = descriptors.seek(self.file, Seek::Set(rest.parse().unwrap_or(0)))?,
            "read" => {
                let mut bytes = [0; TEXT_LEN_MAX];
                let len = descriptors.read(self.file, &mut bytes)?;
                self.noted += len as u64;
                return Ok(Some(String::from_utf8_lossy(&bytes[..len]).into_owned()));
            }
            "line" => {
                if rest.parse() == Ok(self.lines + 1) {
                    descriptors.write(self.lines_file, format!("{rest}\n").as_bytes())?;
                    self.lines += 1;
                }
                return Ok(Some(self.lines.to_string()));
            }
            "sync" => {
                descriptors.sync(self.file)?;
                descriptors.sync(self.lines_file)?;
            }
            "peer" => descriptors.connect(self.push, Some(from))?,
            "push" => {
                descriptors.send(self.push, rest.as_bytes())?;
                return Ok(None);
            }
            "free" => {
                let number = descriptors.open_udp()?;
                descriptors.close(number)?;
                return Ok(Some(number.to_string()));
            }
            other => return Ok(Some(format!("error: no request {other:?}"))),
        }
        self.describe(descriptors).map(Some)
    }

    fn describe(&self, descriptors: Descriptors) -> Result<String, DescriptorError> {
        let peer = descriptors.peer(self.push)?;
        Ok(format!(
            "file {} {} mode {} offset {} noted {} of {}; socket {} {}; push {} {} to {}; listener {}",
            self.file,
            descriptors.path(self.file)?.as_str(),
            descriptors.mode(self.file)?.bits(),
            descriptors.tell(self.file)?,
            self.noted,
            descriptors.len_bytes(self.file)?,
            self.socket,
            descriptors.name(self.socket)?,
            self.push,
            descriptors.name(self.push)?,
            peer.map_or("nobody".to_string(), |peer| peer.to_string()),
            self.listener,
        ))
    }

    /// Tells the state to whoever has connected, and hangs up.
    fn greet(&self, node: &'static Node) {
        let state = self
            .describe(node.descriptors())
            .unwrap_or_else(|error| format!("error: {error}"));
        let mut service = node.service();
        while let Some(event) = service.next_event() {
            if event.news.opened {
                let _ = service.send(event.connection, format!("{state}\n").as_bytes());
                service.close(event.connection);
            }
        }
    }
}
