"""Many clients of the pair in one process, on nothing but sockets.

    crowd_client.py HOST PORT tcp COUNT SECONDS    COUNT connections at once, each with one numbered INCR under way
    crowd_client.py HOST PORT udp FIRST COUNT      COUNT numbered INCRs by datagram, the first of which answers FIRST

Every answer must be the number that is next, and no connection may end: the process fails with a message that says what was
wrong. A machine may die meanwhile: the clients do not know.
"""

import errno
import resource
import selectors
import socket
import sys
import time

# Between two answers: longer than a takeover with all of TCP's patience.
SILENCE_S = 20
# Between two rounds of looking for those who hear nothing.
LOOK_S = 1.0


class Wrong(Exception):
    """The server did something that it must not."""


class Connection:
    """One connection: its counter is its own."""

    def __init__(self, address, number):
        self.number = number
        self.request = b"*2\r\n$4\r\nINCR\r\n$%d\r\ncrowd:%d\r\n" % (len("crowd:%d" % number), number)
        self.count = 0
        self.answer = b""
        self.heard = time.monotonic()
        self.longest_s = 0.0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = self.socket.connect_ex(address)
        if error not in (0, errno.EINPROGRESS):
            raise Wrong("connection %d cannot be opened: %s" % (number, errno.errorcode[error]))

    def begin(self):
        """Whether it is open; asks for the first number."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise Wrong("connection %d is not opened: %s" % (self.number, errno.errorcode[error]))
        self.ask()

    def ask(self):
        if self.socket.send(self.request) != len(self.request):
            raise Wrong("connection %d has no room for a request" % self.number)

    def hear(self):
        """Takes what has come; whether that was a whole answer."""
        try:
            part = self.socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Wrong("connection %d broke after answer %d: %s" % (self.number, self.count, error))
        if not part:
            raise Wrong("connection %d was closed after answer %d" % (self.number, self.count))
        self.answer += part
        self.heard = time.monotonic()
        if not self.answer.endswith(b"\r\n"):
            return False
        if self.answer != b":%d\r\n" % (self.count + 1):
            raise Wrong("connection %d: answer %d is %r" % (self.number, self.count + 1, self.answer))
        if self.count > 0:
            self.longest_s = max(self.longest_s, time.monotonic() - self.answered)
        self.answered = time.monotonic()
        self.count += 1
        self.answer = b""
        return True


def look_for_silence(connections, limit_s):
    now = time.monotonic()
    silent = [connection for connection in connections if now - connection.heard > limit_s]
    if silent:
        first = silent[0]
        raise Wrong(
            "%d of %d connections hear nothing for %d s; the first is %d, after answer %d"
            % (len(silent), len(connections), limit_s, first.number, first.count)
        )


def tcp(address, count, seconds):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, count + 100), hard), hard))
    selector = selectors.DefaultSelector()
    began = time.monotonic()
    connections = [Connection(address, number) for number in range(count)]
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_WRITE, connection)
    opening, look_at, opened = count, began + LOOK_S, None
    deadline = None
    while True:
        now = time.monotonic()
        if now >= look_at:
            look_for_silence(connections, SILENCE_S)
            look_at = now + LOOK_S
        if deadline is not None and now >= deadline:
            break
        for key, _ in selector.select(LOOK_S):
            connection = key.data
            if key.events == selectors.EVENT_WRITE:
                connection.begin()
                selector.modify(connection.socket, selectors.EVENT_READ, connection)
                opening -= 1
                if opening == 0:
                    # Whoever waits for this may let a machine die now.
                    print("open", flush=True)
                    opened = time.monotonic()
                    deadline = opened + seconds
                    before = sum(connection.count for connection in connections)
            elif connection.hear():
                connection.ask()
    ended = time.monotonic()
    answers = sum(connection.count for connection in connections)
    # The last question of each is answered too.
    for connection in connections:
        connection.socket.settimeout(SILENCE_S)
        while not connection.hear():
            pass
    least = min(connection.count for connection in connections)
    longest_ms = sorted(1000 * connection.longest_s for connection in connections)
    print(
        "%d connections, %.0f opened/s, %.0f requests/s, at least %d on each, longest wait for an answer: median %.0f, most %.0f ms"
        % (
            count,
            count / (opened - began),
            (answers - before) / (ended - opened),
            least,
            longest_ms[count // 2],
            longest_ms[-1],
        )
    )


def udp(address, first, count):
    """One socket, one number after the other; then what a datagram cannot carry."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    sock.settimeout(SILENCE_S)

    def ask(datagram):
        sock.send(datagram)
        try:
            return sock.recv(2048)
        except socket.timeout:
            raise Wrong("no answer to %r within %d s" % (datagram, SILENCE_S))

    began = time.monotonic()
    for number in range(first, first + count):
        array = b"*2\r\n$4\r\nINCR\r\n$4\r\nsent\r\n"
        answer = ask(array if number % 2 else b"INCR sent")
        if answer != b":%d\r\n" % number:
            raise Wrong("datagram %d is answered with %r" % (number, answer))
    rate = count / (time.monotonic() - began)
    for datagram, begin in [
        (b"", b"-ERR Protocol error"),
        (b"*2\r\n$4\r\nINCR\r\n", b"-ERR Protocol error"),
        (b"INCR sent\r\nINCR sent\r\n", b"-ERR Protocol error"),
        (b"SELECT 0", b"-ERR 'select' needs a connection"),
        (b"COMMAND", b"-ERR the reply is longer"),
        (b"GET sent", b"$"),
    ]:
        answer = ask(datagram)
        if not answer.startswith(begin):
            raise Wrong("%r is answered with %r" % (datagram, answer))
    print("%d datagrams answered, %.0f/s one after the other" % (count + 6, rate))


def main():
    host, port, what, first, second = sys.argv[1:]
    address = (host, int(port))
    try:
        {"tcp": tcp, "udp": udp}[what](address, int(first), int(second))
    except Wrong as wrong:
        sys.exit(str(wrong))


if __name__ == "__main__":
    main()
