#!/usr/bin/python3
"""A client of a running kv: fills it, reads it back, and holds it to what Redis does.

    pair_client.py [--host H] [--port P] fill --keys 200 --seed N      writes keys of 0 B to 1 MiB, some that expire
    pair_client.py [--host H] [--port P] verify --keys 200 --seed N    compares every byte and every time to live
    pair_client.py [--host H] [--port P] conformance                   walks all commands; EMPTIES THE DATABASE

Needs python3-redis (Debian's package) and nothing else. Exits with 0, or with 1 and a message that says what was
wrong. Deadlines are absolute, so `verify` may run at any time after `fill`, on whatever machine serves then.

`conformance` replays the transcripts in `golden/`, which were recorded from a real Redis, over the wire, and then
does what only a real connection can show: many clients at once, long pipelines, large values, slow readers, and
protocol errors that must end one connection alone. It passes against Redis itself too, but for the limits on sizes.
"""

import argparse
import pathlib
import random
import re
import socket
import sys
import threading
import time

import redis

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import record_golden  # noqa: E402  (the transcripts' format)

MIB = 1 << 20
CONNECT_LIMIT_S = 20
ANSWER_LIMIT_S = 20
CLIENTS = 64
# How far a time to live may be off, in milliseconds: clocks of two machines, and a loaded host.
TTL_TOLERANCE_MS = 1500


class Wrong(Exception):
    """The server did something that it must not."""


def check(condition, message):
    if not condition:
        raise Wrong(message)


def short(data):
    text = record_golden.escape(data[:200])
    return text if len(data) <= 200 else "%s… (%d bytes)" % (text, len(data))


# ------------------------------------------------------------------------------------------------- connections


def connect(address):
    """A raw connection; tries again for a while, for a takeover may be under way."""
    deadline = time.monotonic() + CONNECT_LIMIT_S
    while True:
        try:
            sock = socket.create_connection(address, timeout=1)
            sock.settimeout(ANSWER_LIMIT_S)
            return sock
        except OSError:
            if time.monotonic() > deadline:
                raise Wrong("no connection to %s:%d within %d s" % (*address, CONNECT_LIMIT_S))
            time.sleep(0.05)


def library_client(address):
    """A client of the Redis library that has connected."""
    connect(address).close()
    client = redis.Redis(host=address[0], port=address[1], socket_timeout=ANSWER_LIMIT_S, socket_connect_timeout=5)
    client.ping()
    return client


class Stream:
    """Whole replies from a connection, as the bytes that they are."""

    def __init__(self, sock):
        self.sock = sock
        # Grown and shortened in place: replies arrive in pieces of a segment.
        self.buffer = bytearray()

    def more(self):
        try:
            part = self.sock.recv(1 << 20)
        except socket.timeout:
            raise Wrong("no answer within %d s; so far: %s" % (ANSWER_LIMIT_S, short(bytes(self.buffer))))
        except ConnectionResetError:
            part = b""
        self.buffer += part
        return bool(part)

    def need_more(self):
        if not self.more():
            raise Wrong("the server closed the connection after %s" % short(bytes(self.buffer)))

    def take(self, count):
        while len(self.buffer) < count:
            self.need_more()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def line(self):
        while b"\r\n" not in self.buffer:
            self.need_more()
        return self.take(self.buffer.index(b"\r\n") + 2)

    def reply(self):
        head = self.line()
        kind, count = head[:1], head[1:-2]
        if kind in b"+-:":
            return head
        check(kind in b"$*", "no reply begins like this: %s" % short(head))
        if int(count) < 0:
            return head
        if kind == b"$":
            return head + self.take(int(count) + 2)
        return head + b"".join(self.reply() for _ in range(int(count)))

    def ends(self):
        """Whether the server closes the connection without another word."""
        return not self.buffer and not self.more()


def split_replies(data):
    stream = Stream(None)
    stream.buffer += data
    replies = []
    while stream.buffer:
        replies.append(stream.reply())
    return replies


# ------------------------------------------------------------------------------------------------- fill and verify


def contents(keys, seed):
    """Yields each key with its value and when it expires after the fill, in ms, or None. The seed decides all."""
    chance = random.Random(seed)
    for index in range(keys):
        name = b"fill:%d:%d:" % (seed, index) + bytes(chance.randrange(256) for _ in range(index % 20))
        size = {0: 0, 1: 1, 2: MIB, 3: MIB - 1, 4: 16384, 5: 65536, 6: 100000}.get(index)
        if size is None:
            size = int(2 ** chance.uniform(0, 14.5))
        life_ms = [None, None, 600_000, 3_600_000, 86_400_000][index % 5]
        yield name, chance.randbytes(size), life_ms


MARK = b"fill:%d:begun"


def fill(address, keys, seed):
    client = library_client(address)
    begun_ms = int(time.time() * 1000)
    total = 0
    for key, value, life_ms in contents(keys, seed):
        check(client.set(key, value, px=life_ms) is True, "SET %s was refused" % short(key))
        total += len(value)
    client.set(MARK % seed, begun_ms)
    print("filled %d keys, %d bytes" % (keys, total))


def verify(address, keys, seed):
    client = library_client(address)
    mark = client.get(MARK % seed)
    check(mark is not None, "there is no mark of a fill with seed %d" % seed)
    elapsed_ms = int(time.time() * 1000) - int(mark)
    wrong = []
    for key, value, life_ms in contents(keys, seed):
        if life_ms is not None and life_ms < elapsed_ms + TTL_TOLERANCE_MS:
            continue
        found = client.get(key)
        if found != value:
            wrong.append("%s: %s" % (short(key), "missing" if found is None else "%d bytes that differ" % len(found)))
            continue
        left_ms = client.pttl(key)
        if life_ms is None:
            if left_ms != -1:
                wrong.append("%s: expires in %d ms, but should never" % (short(key), left_ms))
        # It was written somewhat after `begun`, so it may live that much longer.
        elif not -TTL_TOLERANCE_MS <= left_ms - (life_ms - elapsed_ms) <= TTL_TOLERANCE_MS + 30_000:
            wrong.append("%s: expires in %d ms, want about %d" % (short(key), left_ms, life_ms - elapsed_ms))
    check(not wrong, "%d of %d keys are wrong:\n  %s" % (len(wrong), keys, "\n  ".join(wrong[:20])))
    print("verified %d keys" % keys)


# ------------------------------------------------------------------------------------------------- transcripts


def comparable(reply, request):
    """Leaves out what may differ: the client's number, the length of a limit, a second that has passed."""
    reply = re.sub(rb"(\$2\r\nid\r\n:)\d+", rb"\1N", reply)
    if b"TTL" in request.upper():
        reply = re.sub(rb"^:(\d+)\r\n$", lambda match: b":%d\r\n" % (round(int(match[1]) / 50) * 50), reply)
    return reply


def replay(address, path):
    exchanges = 0
    scenario, sock, stream = "", None, None
    lines = [line.rstrip("\n") for line in open(path)]
    for number, line in enumerate(lines):
        if line.startswith("== "):
            scenario = line[3:]
            if sock:
                sock.close()
            sock = connect(address)
            stream = Stream(sock)
            sock.sendall(record_golden.encode([b"FLUSHALL"]))
            check(stream.reply() == b"+OK\r\n", "FLUSHALL was refused")
            continue
        if line.startswith("> "):
            request = record_golden.encode(record_golden.words(line[2:]))
        elif line.startswith("raw> "):
            request = record_golden.unescape(line[5:])
        else:
            continue
        sock.sendall(request)
        following = lines[number + 1] if number + 1 < len(lines) else ""
        expected = record_golden.unescape(following[2:]) if following.startswith("< ") else b""
        for want in split_replies(expected):
            got = stream.reply()
            if comparable(got, request) != comparable(want, request):
                raise Wrong("%s, %s:\n  %s\n  got  %s\n  want %s" % (path.name, scenario, line, short(got), short(want)))
        if "closed" in lines[number + 1 : number + 3] and not lines[number + 1].startswith(("> ", "raw> ")):
            check(stream.ends(), "%s, %s: the connection should be closed after: %s" % (path.name, scenario, line))
        exchanges += 1
    sock.close()
    return "%d exchanges as recorded" % exchanges


# ------------------------------------------------------------------------------------------------- on the wire


def library(address):
    """What an ordinary library does with the commands."""
    client = library_client(address)
    client.flushall()
    client.client_setname("conformance")
    check(client.client_getname() == "conformance", "CLIENT GETNAME")
    check(client.client_id() > 0, "CLIENT ID")
    check(client.execute_command("CLIENT", "SETINFO", "LIB-NAME", "redis-py") in (True, b"OK"), "CLIENT SETINFO")
    check(client.set("k", "v", ex=100, nx=True) is True, "SET EX NX")
    check(client.set("k", "w", nx=True) is None, "SET NX of a key that is there")
    check(client.set("k", "w", xx=True, get=True) == b"v", "SET XX GET")
    check(client.ttl("k") == -1, "SET takes the expiry away")
    check(client.expire("k", 100) and 98 <= client.ttl("k") <= 100, "EXPIRE, TTL")
    check(client.persist("k") and client.pttl("k") == -1, "PERSIST, PTTL")
    check(client.mset({"a": 1, "b": 2}) and client.mget("a", "b", "c") == [b"1", b"2", None], "MSET, MGET")
    check(client.incr("n", 5) == 5 and client.decr("n", 7) == -2, "INCRBY, DECRBY")
    check(client.append("a", "23") == 3 and client.strlen("a") == 3, "APPEND, STRLEN")
    check(client.type("a") == b"string" and client.exists("a", "a", "zz") == 2, "TYPE, EXISTS")
    check(sorted(client.keys("*")) == [b"a", b"b", b"k", b"n"] and client.dbsize() == 4, "KEYS, DBSIZE")
    check(client.delete("a", "zz") == 1 and client.unlink("b") == 1, "DEL, UNLINK")
    check(client.echo("hi") == b"hi", "ECHO")
    check(set(client.config_get("save")) == {"save"} and client.config_get("appendonly") == {"appendonly": "no"}, "CONFIG GET")
    check("get" in client.command() and client.command_count() > 30, "COMMAND")
    for section, field in [
        ("server", "redis_version"),
        ("clients", "connected_clients"),
        ("memory", "used_memory"),
        ("persistence", "loading"),
        ("stats", "total_commands_processed"),
        ("keyspace", "db0"),
    ]:
        check(field in client.info(section), "INFO %s has no %s" % (section, field))
    check(client.info("replication")["role"] == "master", "INFO replication does not say role:master")
    check(client.info("hotspare").get("term", 0) >= 1, "INFO hotspare does not say a term")
    check(client.flushdb() and client.dbsize() == 0, "FLUSHDB")
    return "as an ordinary library expects"


def pipelining(address):
    client = library_client(address)
    client.flushall()
    pipe = client.pipeline(transaction=False)
    for index in range(10_000):
        pipe.incr("n")
        pipe.set("k%d" % (index % 100), index)
    answers = pipe.execute()
    check(answers[0::2] == list(range(1, 10_001)), "pipelined INCRs were answered out of order")
    check(all(answer is True for answer in answers[1::2]), "a pipelined SET was refused")
    return "20000 commands in one pipeline"


def in_threads(count, body):
    failures = []

    def run(index):
        try:
            body(index)
        except Exception as error:  # noqa: BLE001  (reported by the main thread)
            failures.append("client %d: %s" % (index, error))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, "; ".join(failures[:5]))


def many_clients(address):
    client = library_client(address)
    client.flushall()
    barrier = threading.Barrier(CLIENTS, timeout=60)

    def body(index):
        own = library_client(address)
        barrier.wait()
        for turn in range(50):
            own.incr("shared")
            own.set("own:%d" % index, turn)
            check(own.get("own:%d" % index) == b"%d" % turn, "reads something else than it wrote")
        barrier.wait()

    in_threads(CLIENTS, body)
    check(client.get("shared") == b"%d" % (50 * CLIENTS), "increments were lost: %r" % client.get("shared"))
    return "%d clients at once" % CLIENTS


def large_values(address):
    client = library_client(address)
    client.flushall()

    def value(index):
        return random.Random(index).randbytes(MIB)

    def body(index):
        own = library_client(address)
        key = "large:%d" % (index % 16)
        wanted = value(index % 16)
        check(own.set(key, wanted) is True, "SET of 1 MiB was refused")
        check(own.get(key) == wanted, "1 MiB came back otherwise than it was sent")

    in_threads(CLIENTS, body)
    check(client.dbsize() == 16, "there are other keys than were written")
    client.flushall()
    return "1 MiB values from %d clients at once" % CLIENTS


def too_large(address):
    sock = connect(address)
    sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (MIB + 1))
    stream = Stream(sock)
    check(stream.reply() == b"-ERR Protocol error: invalid bulk length\r\n", "a value above the limit was not refused")
    check(stream.ends(), "the connection stays open after a protocol error")
    client = library_client(address)
    client.set("long", b"x" * MIB)
    try:
        client.append("long", "y")
        raise Wrong("APPEND beyond the limit was not refused")
    except redis.ResponseError as error:
        check("exceeds maximum allowed size" in str(error), "APPEND beyond the limit: %s" % error)
    client.delete("long")
    return "values above 1 MiB are refused"


def protocol_errors(address):
    bystander = connect(address)
    bystander_stream = Stream(bystander)
    chance = random.Random(7)
    for attempt in range(200):
        sock = connect(address)
        bad = [
            b"*1\r\n!3\r\n",
            b"*1\r\n$-5\r\n",
            b"*99999999999\r\n",
            b'ECHO "x\r\n',
            b"*" + b"1" * 70_000,
            b"*2\r\n" + chance.randbytes(chance.randrange(1, 200)) + b"\r\n",
        ][attempt % 6]
        stream = Stream(sock)
        try:
            sock.sendall(b"PING\r\n" + bad)
            check(stream.reply() == b"+PONG\r\n", "the request before the error was not answered")
            answer = stream.reply()
        except (BrokenPipeError, ConnectionResetError):
            # The server hung up while we were still sending: the answer is lost on the way, and that is TCP's.
            answer = b"-ERR Protocol error"
        check(answer.startswith(b"-ERR Protocol error"), "%s was answered %s" % (short(bad), short(answer)))
        check(stream.ends(), "the connection stays open after a protocol error")
        sock.close()
        bystander.sendall(b"PING\r\n")
        check(bystander_stream.reply() == b"+PONG\r\n", "a protocol error of another client did harm")
    return "200 protocol errors, each ended one connection"


def slow_reader(address):
    client = library_client(address)
    client.set("big", b"v" * 500_000)
    sock = connect(address)
    asked = 100
    sock.sendall(b"GET big\r\n" * asked)
    # It does not read; meanwhile the others are served.
    begun = time.monotonic()
    for turn in range(200):
        client.set("other", turn)
    check(time.monotonic() - begun < ANSWER_LIMIT_S, "a client that does not read holds up the others")
    stream = Stream(sock)
    for _ in range(asked):
        check(len(stream.reply()) == 500_000 + len(b"$500000\r\n\r\n"), "a slow reader lost a part of a reply")
    client.flushall()
    return "50 MB waited for a slow reader"


def expiry(address):
    client = library_client(address)
    client.flushall()
    pipe = client.pipeline(transaction=False)
    for index in range(100):
        pipe.set("soon:%d" % index, index, px=1500 + index)
        pipe.set("late:%d" % index, index, ex=1000)
    pipe.dbsize()
    check(pipe.execute()[-1] == 200, "keys that expire are not there")
    deadline = time.monotonic() + 15
    # Nobody touches them: the server has to clear them away by itself.
    while client.dbsize() > 100:
        check(time.monotonic() < deadline, "expired keys were not cleared away: %d left" % client.dbsize())
        time.sleep(0.02)
    check(client.get("soon:1") is None and client.get("late:1") == b"1", "the wrong keys expired")
    return "100 keys expired untouched"


def scanning(address):
    client = library_client(address)
    client.flushall()
    pipe = client.pipeline(transaction=False)
    for index in range(2000):
        pipe.set("stay:%d" % index, index)
    pipe.execute()
    seen = []
    cursor = None
    turn = 0
    while cursor != 0:
        cursor, keys = client.scan(cursor or 0, match="stay:*", count=50)
        seen += keys
        pipe = client.pipeline(transaction=False)
        for index in range(60):
            pipe.set("come:%d:%d" % (turn, index), index)
            pipe.delete("come:%d:%d" % (turn - 1, index))
        pipe.execute()
        turn += 1
    check(len(set(seen)) == 2000, "SCAN missed %d keys that were there all the time" % (2000 - len(set(seen))))
    client.flushall()
    return "2000 keys met while others came and went"


def full(address):
    """Fills the memory to the brim; what is there stays, and what goes makes room."""
    client = library_client(address)
    client.flushall()
    value = random.Random(1).randbytes(MIB)
    stored = 0
    try:
        while stored < 4096:
            client.set("full:%d" % stored, value)
            stored += 1
        raise Wrong("4 GiB were stored: there is no limit")
    except redis.ResponseError as error:
        check(str(error).startswith("OOM") or "OOM" in repr(error), "a full server says: %r" % error)
    for index in range(stored):
        check(client.get("full:%d" % index) == value, "key %d of %d suffered from a full memory" % (index, stored))
    check(client.delete("full:0") == 1 and client.set("again", value) is True, "a freed place cannot be used again")
    client.flushall()
    check(client.set("after", "v") is True and client.dbsize() == 1, "FLUSHALL does not make room")
    return "refused after %d MiB, nothing lost" % stored


def conformance(address, with_full):
    here = pathlib.Path(__file__).resolve().parent
    parts = [(path.stem, lambda path=path: replay(address, path)) for path in sorted((here / "golden").glob("*.txt"))]
    bodies = [library, pipelining, many_clients, large_values, too_large, protocol_errors, slow_reader, expiry, scanning]
    parts += [(body.__name__, lambda body=body: body(address)) for body in bodies]
    if with_full:
        parts.append(("full", lambda: full(address)))
    for name, body in parts:
        begun = time.monotonic()
        try:
            said = body()
        except (Wrong, redis.RedisError, OSError) as error:
            raise Wrong("%s: %s" % (name, error))
        print("%-16s %6.2f s  %s" % (name, time.monotonic() - begun, said), flush=True)


def main():
    parser = argparse.ArgumentParser(description="A client of a running kv.")
    parser.add_argument("--host", default="10.77.0.10")
    parser.add_argument("--port", type=int, default=6379)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fill", "verify"):
        command = commands.add_parser(name)
        command.add_argument("--keys", type=int, default=200)
        command.add_argument("--seed", type=int, required=True)
    command = commands.add_parser("conformance")
    command.add_argument("--full", action="store_true", help="fill the memory to the brim as well")
    arguments = parser.parse_args()
    address = (arguments.host, arguments.port)
    try:
        if arguments.command == "conformance":
            conformance(address, arguments.full)
        else:
            {"fill": fill, "verify": verify}[arguments.command](address, arguments.keys, arguments.seed)
    except (Wrong, redis.RedisError, OSError) as error:
        sys.exit("%s failed: %s" % (arguments.command, error))


if __name__ == "__main__":
    main()
