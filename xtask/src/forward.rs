//! Forwards a port of the host to the service.
//!
//! The listening socket was made outside the namespace, the connections to the service are made inside:
//! the forwarder is where the two networks meet. It keeps no state of the pair: a connection whose master died goes on with the new
//! one, or is reset by it, like any other, and a new connection is tried until a master answers. At most [`CONNECTIONS_MAX`] at
//! once; further ones wait in the kernel's queue.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, set_tcp_user_timeout};

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// How long one attempt to reach the service may take: a dead master does not answer at all.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(250);
/// How long the service may leave bytes unacknowledged, in milliseconds: then nobody will take them any more.
const SILENCE_MS: u32 = 30_000;
/// How long a client's new connection is kept waiting for a master.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Counts connections, and waits when there are too many.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// A place taken; dropping it frees it.
struct Place(Arc<Places>);

impl Places {
    fn take(self: &Arc<Self>) -> Place {
        let mut taken = self.taken.lock().expect("nothing panics while it is held");
        while *taken == CONNECTIONS_MAX {
            taken = self.freed.wait(taken).expect("nothing panics while it is held");
        }
        *taken += 1;
        Place(self.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.taken.lock().expect("nothing panics while it is held") -= 1;
        self.0.freed.notify_one();
    }
}

/// Forwards what `listener` accepts to `service`, in threads of its own, for as long as the process lives.
pub(crate) fn start(listener: TcpListener, service: SocketAddr) {
    let places = Arc::new(Places::default());
    thread::spawn(move || {
        loop {
            let place = places.take();
            match listener.accept() {
                Ok((client, _)) => drop(thread::spawn(move || {
                    serve(client, service);
                    drop(place);
                })),
                // Out of file descriptors, or the client is gone already: the next one may fare better.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    });
}

/// Reaches `service`, however often it takes.
///
/// # Errors
/// It could not be reached within `limit`.
pub(crate) fn reach(service: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let begun = Instant::now();
    loop {
        let attempt = Instant::now();
        match TcpStream::connect_timeout(&service, ATTEMPT_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) if begun.elapsed() >= limit => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20).saturating_sub(attempt.elapsed())),
        }
    }
}

/// Carries one connection both ways until both are closed, or one is reset.
fn serve(client: TcpStream, service: SocketAddr) {
    let Ok(server) = reach(service, CONNECT_LIMIT) else {
        return reset(&client);
    };
    // Small requests and replies must not wait for each other.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let _ = set_tcp_user_timeout(&server, SILENCE_MS);
    thread::scope(|scope| {
        scope.spawn(|| carry(&client, &server));
        carry(&server, &client);
    });
}

/// Carries bytes one way. The end of one is passed on as the end of the other; a broken connection breaks both.
fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    let broken = loop {
        match from.read(&mut buffer) {
            Ok(0) => break false,
            Ok(length) => {
                if to.write_all(&buffer[..length]).is_err() {
                    break true;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break true,
        }
    };
    if broken {
        reset(from);
        reset(to);
    } else {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// Makes the peer see a reset and not an orderly end: its last request may have been lost. The reset goes
/// out when the last user drops the stream, so whoever still reads is woken, without a word on the wire.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

    use super::*;

    fn forwarded(service: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        start(listener, service);
        TcpStream::connect(port).unwrap()
    }

    #[test]
    fn a_half_closed_connection_still_carries_the_reply() {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = forwarded(service.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = service.accept().unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).unwrap();
            request.reverse();
            stream.write_all(&request).unwrap();
        });
        let request: Vec<u8> = (0..1 << 20).map(|index: u32| index as u8).collect();
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        server.join().unwrap();
        assert!(reply.iter().eq(request.iter().rev()));
    }

    #[test]
    fn a_new_connection_waits_for_a_service_that_comes_back() {
        // Bound and not listening: whoever connects is refused, as by a host whose service is down.
        let down = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&down, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut client = forwarded(getsockname(&down).unwrap().try_into().unwrap());
        client.write_all(b"still here?").unwrap();
        listen(&down, 1).unwrap();
        let second = TcpListener::from(down);
        let (mut stream, _) = second.accept().unwrap();
        let mut request = [0; 11];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"still here?");
    }

    #[test]
    fn a_reset_of_the_service_reaches_the_client() {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = forwarded(service.local_addr().unwrap());
        client.write_all(b"x").unwrap();
        let (mut stream, _) = service.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        assert_eq!(
            client.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
}
