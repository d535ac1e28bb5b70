//! A client of `kv` for figures: INCR one at a time, or from many connections with several on their way in each.
//!
//! Every reply is checked: it is the next number of its key. A service that lost or doubled a request would not be measured,
//! it would fail. One thread does it all, because on a small host more of them would take the processor from the guests.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long one reply may take.
const REPLY_LIMIT: Duration = Duration::from_secs(20);
/// Most that comes at once.
const PIECE_BYTES: usize = 4096;

/// A key that is counted up, and how far it is: whoever asks next must be told the number after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counter {
    request: Vec<u8>,
    value: u64,
}

impl Counter {
    /// The key `name`, which nobody has counted up yet.
    pub(super) fn new(name: &str) -> Counter {
        Counter {
            request: format!("*2\r\n$4\r\nINCR\r\n${}\r\n{name}\r\n", name.len()).into_bytes(),
            value: 0,
        }
    }

    /// Takes a reply in, without its line's end.
    fn take(&mut self, reply: &[u8]) -> Result<()> {
        let expected = format!(":{}", self.value + 1);
        ensure!(
            reply == expected.as_bytes(),
            "INCR was answered with {} and not with {expected}",
            reply.escape_ascii()
        );
        self.value += 1;
        Ok(())
    }
}

/// A connection.
pub(super) struct Client {
    stream: TcpStream,
    /// What has come and is no whole line yet.
    rest: Vec<u8>,
}

impl Client {
    /// Connects to a service that is there.
    ///
    /// # Errors
    /// Nobody answers within [`REPLY_LIMIT`].
    pub(super) fn connect(service: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&service, REPLY_LIMIT)
            .with_context(|| format!("cannot connect to {service}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(Client {
            stream,
            rest: Vec::new(),
        })
    }

    /// Counts up once; how long that took, from the request to its reply.
    ///
    /// # Errors
    /// The connection breaks, no reply comes, or a wrong one.
    pub(super) fn count(&mut self, counter: &mut Counter) -> Result<Duration> {
        let begun = Instant::now();
        self.stream.write_all(&counter.request)?;
        while self.take_lines(|line| counter.take(line))? == 0 {
            self.read()?;
        }
        Ok(begun.elapsed())
    }

    /// A field of `INFO hotspare`.
    ///
    /// # Errors
    /// The connection breaks, or there is no such field.
    pub(super) fn figure(&mut self, field: &str) -> Result<u64> {
        self.stream.write_all(b"INFO hotspare\r\n")?;
        let mut lines: Vec<String> = Vec::new();
        // The last line of all is empty; so is none before it, of one section.
        while lines.last().is_none_or(|line| !line.is_empty()) {
            self.read()?;
            self.take_lines(|line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            })?;
        }
        let value = lines
            .iter()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = value.with_context(|| format!("INFO has no {field}: {}", lines.join(", ")))?;
        value
            .parse()
            .with_context(|| format!("INFO's {field} is {value}, no number"))
    }

    /// Waits until something has come, and takes it in; at once if nothing can have come and the stream does not block.
    fn read(&mut self) -> Result<()> {
        let mut piece = [0; PIECE_BYTES];
        match self.stream.read(&mut piece) {
            Ok(0) => bail!("the service has hung up"),
            Ok(count) => {
                self.rest.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error).context("no reply came"),
        }
    }

    /// Hands each whole line to `each`, without its end; how many there were.
    fn take_lines(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<usize> {
        let (mut taken, mut count) = (0, 0);
        while let Some(len) = self.rest[taken..].windows(2).position(|pair| pair == b"\r\n") {
            each(&self.rest[taken..taken + len])?;
            taken += len + 2;
            count += 1;
        }
        self.rest.drain(..taken);
        Ok(count)
    }
}

/// Connections that ask all the time.
pub(super) struct Crowd {
    clients: Vec<Client>,
    /// Requests on their way in each.
    depth: usize,
}

impl Crowd {
    /// Opens `count` connections, with `depth` requests on their way in each.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(super) fn connect(service: SocketAddr, count: usize, depth: usize) -> Result<Crowd> {
        let clients = (0..count).map(|_| Client::connect(service));
        Ok(Crowd {
            clients: clients.collect::<Result<_>>()?,
            depth,
        })
    }

    /// Has each connection count up a counter of its own for `time`, a batch when the batch before it is answered. Returns the
    /// replies in a second, up to the last one.
    ///
    /// # Errors
    /// As [`Client::count`].
    ///
    /// # Panics
    /// There are fewer counters than connections.
    pub(super) fn load(&mut self, counters: &mut [Counter], time: Duration) -> Result<f64> {
        assert!(counters.len() >= self.clients.len());
        let batches: Vec<Vec<u8>> = counters
            .iter()
            .map(|counter| counter.request.repeat(self.depth))
            .collect();
        let mut missing = vec![self.depth; self.clients.len()];
        let mut replies = 0;
        let begun = Instant::now();
        for (client, batch) in self.clients.iter_mut().zip(&batches) {
            client.stream.write_all(batch)?;
        }
        while missing.iter().any(|missing| *missing > 0) {
            for index in self.readable()? {
                let (client, counter) = (&mut self.clients[index], &mut counters[index]);
                client.read()?;
                let count = client.take_lines(|line| counter.take(line))?;
                replies += count;
                missing[index] = missing[index]
                    .checked_sub(count)
                    .context("more replies came than there were requests")?;
                if missing[index] == 0 && begun.elapsed() < time {
                    client.stream.write_all(&batches[index])?;
                    missing[index] = self.depth;
                }
            }
        }
        Ok(replies as f64 / begun.elapsed().as_secs_f64())
    }

    /// Waits until something has come, and says in which connections.
    fn readable(&self) -> Result<Vec<usize>> {
        let limit = Timespec {
            tv_sec: REPLY_LIMIT.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut sockets: Vec<PollFd<'_>> = self
            .clients
            .iter()
            .map(|client| PollFd::new(&client.stream, PollFlags::IN))
            .collect();
        let found = rustix::io::retry_on_intr(|| poll(&mut sockets, Some(&limit)))?;
        ensure!(found > 0, "no reply came for {} s", REPLY_LIMIT.as_secs());
        let events = sockets.iter().enumerate();
        Ok(events
            .filter(|(_, socket)| !socket.revents().is_empty())
            .map(|(index, _)| index)
            .collect())
    }
}

#[cfg(test)]
mod tests;
