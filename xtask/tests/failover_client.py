"""Clients that go on while their server's machine dies: their own kernel's TCP, and nothing that a pair would know of.

    failover_client.py HOST PORT incr [--connections C] [--window W] [--think-ms T] [--mixed M] [--visitors V]
    failover_client.py HOST PORT bulk [--streams N]
    failover_client.py HOST PORT half-close | slow-reader | edges
    failover_client.py HOST PORT udp
    failover_client.py HOST PORT crash

It says `ready` when all its connections are at work. Then it reads lines: `killed T` says that the master was killed at T, in
seconds of the monotonic clock; `stop`, or the end, says that it is enough. It takes what it is still owed, and prints one line
of JSON with what it met. It fails if there were violations: a connection that broke or hung, a reply that was lost, doubled,
out of order or wrong.

incr: connection 0 has one INCR on its way at a time; C others have W each and rest for T ms between two batches; M more set keys
and read them, V more come and go. Each reply has to be the next number. bulk, half-close, slow-reader and edges are for the guest `streams`: `bulk`
has streams in both directions all the time; `edges` opens and closes connections all the time. `udp` has one datagram at a time
answered. `crash` has one connection crash the server, which must be told `crash=on`.

Whoever comes and goes, or asks by datagram, does not stop before one that began after the kill was served.
"""

import argparse
import asyncio
import json
import socket
import struct
import sys
import time
import zlib

# How long anything may take that is owed, in seconds.
OWED_LIMIT = 20
# A reply that was on its way at the kill is there after this, in seconds.
UNDER_WAY = 0.005
# How long a connection may take to be made: the kernel asks again after 1, 3, 7 seconds.
CONNECT_LIMIT = 10
# Whoever was refused comes again after this, in seconds.
REFUSED_PAUSE = 0.01
# After this a datagram counts as unanswered, in seconds.
ANSWER_LIMIT = 1
KIB = 1 << 10
MIB = 1 << 20
# A source or sink of this length takes long enough to be met by a kill.
TRANSFER_BYTES = 2 * MIB


def pattern(seed, len_bytes):
    """The bytes that the guest `streams` makes of a seed."""
    state, numbers = seed or 1, []
    for _ in range((len_bytes + 7) // 8):
        state ^= state << 13 & 0xFFFF_FFFF_FFFF_FFFF
        state ^= state >> 7
        state ^= state << 17 & 0xFFFF_FFFF_FFFF_FFFF
        numbers.append(state)
    return struct.pack(f"<{len(numbers)}Q", *numbers)[:len_bytes]


class Run:
    """What all clients of a run share."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.stopping = asyncio.Event()
        self.killing = asyncio.Event()
        self.killed_at = None
        self.violations = []
        self.count = {name: 0 for name in ("broken", "lost", "duplicated", "reordered", "wrong", "hung")}
        self.figures = {}
        self.waited_for = set()

    def violation(self, kind, text, count=1):
        self.count[kind] += count
        if len(self.violations) < 20:
            self.violations.append(f"{kind}: {text}")

    def begins(self, name):
        """Somebody has to be at work before the run counts as ready."""
        self.waited_for.add(name)

    def works(self, name):
        if name in self.waited_for:
            self.waited_for.discard(name)
            if not self.waited_for:
                print("ready", flush=True)

    def is_enough(self, served_from):
        """Whether a client may stop whose last visit that was served began at this time."""
        return self.stopping.is_set() and (self.killed_at is None or served_from > self.killed_at)

    async def connect(self, **options):
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(self.arguments.host, self.arguments.port, **options), CONNECT_LIMIT
        )
        return reader, writer

    async def listen(self):
        """Takes the lines of whoever started us."""
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while True:
            line = (await lines.readline()).decode().split()
            if line[:1] == ["killed"]:
                self.killed_at = float(line[1])
                self.killing.set()
            elif line in ([], ["stop"]):
                self.stopping.set()
                return

    async def watched(self, name, work):
        """Does a client's work. Whatever breaks it is a violation, and so is that it does not end when all is done."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait_for(task, OWED_LIMIT)
        except asyncio.TimeoutError:
            self.violation("hung", f"{name} was not done {OWED_LIMIT} s after the end, or not connected")
        except (OSError, asyncio.IncompleteReadError, EOFError) as error:
            self.violation("broken", f"{name}: {error!r}")
        finally:
            stop.cancel()
            # Others must not wait for one that is gone.
            self.works(name)


class Replies:
    """The replies to the INCRs of one connection: each has to be the next number."""

    def __init__(self, run, name):
        self.run, self.name = run, name
        self.last = 0
        self.missing = set()
        self.times = []

    def take(self, number):
        self.times.append(time.monotonic())
        if number == self.last + 1:
            self.last = number
        elif number > self.last:
            skipped = range(self.last + 1, number)
            self.missing.update(skipped)
            self.run.violation("lost", f"{self.name}: {number} came after {self.last}", len(skipped))
            self.last = number
        elif number in self.missing:
            self.missing.discard(number)
            self.run.count["lost"] -= 1
            self.run.violation("reordered", f"{self.name}: {number} came after {self.last}")
        else:
            self.run.violation("duplicated", f"{self.name}: {number} came after {self.last}")

    def longest_gap(self):
        return max((b - a for a, b in zip(self.times, self.times[1:])), default=0.0)

    def pause(self):
        """From the kill to the next reply that was not on its way yet: the end of the longest silence that had begun by then."""
        killed_at = self.run.killed_at
        if killed_at is None:
            return None
        silences = [(b - a, b) for a, b in zip(self.times, self.times[1:]) if a < killed_at + UNDER_WAY and b > killed_at]
        return max(silences)[1] - killed_at if silences else None


async def reply_of(reader):
    line = await reader.readuntil(b"\r\n")
    if line[:1] == b"$":
        len_bytes = int(line[1:])
        return None if len_bytes < 0 else (await reader.readexactly(len_bytes + 2))[:-2]
    return line[:-2]


async def says_no_more(run, name, reader, writer):
    """Once the client has finished, the server has nothing more to say either: no reply comes twice at the very end."""
    writer.write_eof()
    check_bytes(run, name, await reader.read(-1), b"")
    writer.close()


async def increments(run, name, key, replies, window, think_s):
    reader, writer = await run.connect()
    batch = b"INCR %s\r\n" % key * window
    while not run.stopping.is_set():
        writer.write(batch)
        for _ in range(window):
            reply = await reply_of(reader)
            if reply[:1] == b":":
                replies.take(int(reply[1:]))
            else:
                run.violation("wrong", f"{name}: {reply!r}")
        run.works(name)
        if think_s:
            await asyncio.sleep(think_s)
    writer.write(b"GET %s\r\n" % key)
    found = await reply_of(reader)
    if found != b"%d" % replies.last:
        run.violation("wrong", f"{name}: the key is {found!r} after {replies.last} INCRs")
    await says_no_more(run, name, reader, writer)


async def mixed(run, name, key, think_s):
    """What was set is read back."""
    reader, writer = await run.connect()
    number = 0
    while not run.stopping.is_set():
        number += 1
        value = b"%d" % number + b"." * (number * 37 % 400)
        writer.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
        told = await reply_of(reader)
        writer.write(b"GET %s\r\n" % key)
        found = await reply_of(reader)
        if (told, found) != (b"+OK", value):
            run.violation("wrong", f"{name}: SET said {told!r}, then GET {found!r:.60} and not {value!r:.60}")
        run.works(name)
        if think_s:
            await asyncio.sleep(think_s)
    await says_no_more(run, name, reader, writer)


async def visits(run, name, key, think_s):
    """Comes for one INCR and goes, again and again; who closes first changes."""
    number, served_from = 0, 0.0
    while not run.is_enough(served_from):
        begun = time.monotonic()
        try:
            reader, writer = await run.connect()
        except ConnectionRefusedError:
            # As clean an answer as any.
            await asyncio.sleep(REFUSED_PAUSE)
            continue
        number += 1
        writer.write(b"INCR %s\r\n" % key + b"QUIT\r\n" * (number % 2))
        reply = await asyncio.wait_for(reply_of(reader), OWED_LIMIT)
        if reply != b":%d" % number:
            run.violation("wrong", f"{name}: visit {number} was answered {reply!r}")
        if number % 2:
            check_bytes(run, name, await asyncio.wait_for(reader.read(-1), OWED_LIMIT), b"+OK\r\n")
        else:
            writer.write_eof()
            check_bytes(run, name, await asyncio.wait_for(reader.read(-1), OWED_LIMIT), b"")
        writer.close()
        served_from = begun
        run.works(name)
        if think_s:
            await asyncio.sleep(think_s)


async def incr(run):
    options = run.arguments
    prefix = b"%s:%d" % (options.prefix.encode(), time.time_ns())
    histories, tasks = [], []
    for index in range(1 + options.connections):
        name = f"connection {index}"
        replies = Replies(run, name)
        histories.append(replies)
        window, think_s = (1, 0) if index == 0 else (options.window, options.think_ms / 1000)
        run.begins(name)
        tasks.append(run.watched(name, increments(run, name, b"%s:%d" % (prefix, index), replies, window, think_s)))
    for index in range(options.mixed):
        name = f"mixed {index}"
        run.begins(name)
        tasks.append(run.watched(name, mixed(run, name, b"%s:mixed:%d" % (prefix, index), options.think_ms / 1000)))
    for index in range(options.visitors):
        name = f"visitor {index}"
        run.begins(name)
        tasks.append(run.watched(name, visits(run, name, b"%s:visitor:%d" % (prefix, index), options.think_ms / 1000)))
    await asyncio.gather(*tasks)
    milliseconds = lambda seconds: None if seconds is None else round(seconds * 1000, 3)
    run.figures["replies"] = sum(len(replies.times) for replies in histories)
    run.figures["pauses_ms"] = [milliseconds(replies.pause()) for replies in histories]
    run.figures["longest_gaps_ms"] = [milliseconds(replies.longest_gap()) for replies in histories]


class Transfers:
    """Counts the streams of one direction, and those that were under way at the kill."""

    def __init__(self, run, name):
        self.run, self.name = run, name
        self.spans = []

    async def forever(self, one):
        while not self.run.stopping.is_set():
            begun = time.monotonic()
            await one()
            self.spans.append((begun, time.monotonic()))

    def tell(self):
        killed_at = self.run.killed_at
        self.run.figures[self.name] = {
            "streams": len(self.spans),
            "through_the_kill": sum(begun < killed_at < ended for begun, ended in self.spans) if killed_at else 0,
        }


def check_hash(run, name, said, content):
    wanted = b"%d %08x\n" % (len(content), zlib.crc32(content))
    if said != wanted:
        run.violation("wrong", f"{name}: the server counted {said!r}, sent was {wanted!r}")


def check_bytes(run, name, found, wanted):
    if found != wanted:
        same = next((at for at, (a, b) in enumerate(zip(found, wanted)) if a != b), min(len(found), len(wanted)))
        run.violation("wrong", f"{name}: {len(found)} bytes and not {len(wanted)}, other ones from byte {same} on")


async def bulk(run):
    content = pattern(11, TRANSFER_BYTES)

    async def sink(name):
        reader, writer = await run.connect()
        writer.write(b"sink %d\n" % len(content))
        for at in range(0, len(content), 64 * KIB):
            writer.write(content[at : at + 64 * KIB])
            await writer.drain()
            run.works(name)
        check_hash(run, name, await reader.readline(), content)
        writer.close()

    async def source(name):
        reader, writer = await run.connect()
        writer.write(b"source %d 11\n" % len(content))
        found = await reader.readexactly(64 * KIB)
        run.works(name)
        found += await reader.read(-1)
        check_bytes(run, name, found, content)
        writer.close()

    async def echo(name):
        """Back comes what goes out, until the end: one connection for all of the run."""
        reader, writer = await run.connect()
        writer.write(b"echo\n")
        at = 0
        while not run.stopping.is_set():
            piece = content[at : at + 16 * KIB]
            at = (at + len(piece)) % len(content)
            writer.write(piece)
            check_bytes(run, name, await reader.readexactly(len(piece)), piece)
            run.works(name)
        writer.write_eof()
        check_bytes(run, name, await reader.read(-1), b"")
        writer.close()

    tasks, directions = [], []
    for what, one in (("sink", sink), ("source", source)):
        for index in range(run.arguments.streams):
            name = f"{what} {index}"
            transfers = Transfers(run, name)
            directions.append(transfers)
            run.begins(name)
            tasks.append(run.watched(name, transfers.forever(lambda name=name, one=one: one(name))))
    run.begins("echo")
    tasks.append(run.watched("echo", echo("echo")))
    await asyncio.gather(*tasks)
    for transfers in directions:
        transfers.tell()
    met = [transfers.name for transfers in directions if run.figures[transfers.name]["through_the_kill"]]
    begun = min((begun for transfers in directions for begun, _ in transfers.spans), default=0)
    if run.killed_at and run.killed_at > begun and not (any("sink" in name for name in met) and any("source" in name for name in met)):
        run.violation("wrong", f"the kill met no stream in one direction, only {met}")


def narrow_socket(run):
    """A socket that takes little: its window closes soon. Not connected."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    narrow.connect((run.arguments.host, run.arguments.port))
    narrow.setblocking(False)
    return narrow


async def half_close(run):
    """One whose client has finished before the kill and has not yet read a byte; one whose client finishes while nobody serves."""
    # So much that not all of it can have been answered by then.
    content = pattern(12, 40 * KIB)
    loop = asyncio.get_running_loop()

    async def before(name):
        narrow = narrow_socket(run)
        await loop.sock_sendall(narrow, b"echo\n" + content)
        narrow.shutdown(socket.SHUT_WR)
        run.works(name)
        await run.stopping.wait()
        found = b""
        while piece := await loop.sock_recv(narrow, 64 * KIB):
            found += piece
        check_bytes(run, name, found, content)
        narrow.close()

    async def meanwhile(name):
        reader, writer = await run.connect()
        writer.write(b"sink %d\n" % MIB + content[: 10 * KIB])
        await writer.drain()
        run.works(name)
        await run.killing.wait()
        writer.write(content[10 * KIB :])
        writer.write_eof()
        check_hash(run, name, await reader.readline(), content)
        check_bytes(run, name, await reader.read(-1), b"")
        writer.close()

    tasks = []
    for name, work in (("finished before", before), ("finished meanwhile", meanwhile)):
        run.begins(name)
        tasks.append(run.watched(name, work(name)))
    await asyncio.gather(*tasks)


async def slow_reader(run):
    """The server has megabytes for a client that reads none of them for two seconds: all windows are closed at the kill."""
    content = pattern(13, TRANSFER_BYTES)
    loop = asyncio.get_running_loop()

    async def slow(name):
        narrow = narrow_socket(run)
        await loop.sock_sendall(narrow, b"source %d 13\n" % len(content))
        await asyncio.sleep(1)
        run.works(name)
        await run.killing.wait()
        await asyncio.sleep(1)
        found = b""
        while piece := await loop.sock_recv(narrow, 64 * KIB):
            found += piece
        check_bytes(run, name, found, content)
        narrow.close()

    run.begins("slow reader")
    await run.watched("slow reader", slow("slow reader"))


async def edges(run):
    """Connections that are opened and closed all the time, so that SYNs and FINs are on their way at the kill."""
    run.figures.update(completed=0, refused=0)

    async def come_and_go(name, shut_first):
        number, served_from = 0, 0.0
        while not run.is_enough(served_from):
            number += 1
            begun = time.monotonic()
            words = b"%s, visit %d\n" % (name.encode(), number)
            try:
                reader, writer = await run.connect()
            except ConnectionRefusedError:
                # As clean an answer as any.
                run.figures["refused"] += 1
                await asyncio.sleep(REFUSED_PAUSE)
                continue
            if shut_first:
                writer.write(b"echo\n" + words)
                writer.write_eof()
                check_bytes(run, name, await asyncio.wait_for(reader.read(-1), OWED_LIMIT), words)
            else:
                # The server's FIN comes first.
                writer.write(b"sink %d\n" % len(words) + words)
                check_hash(run, name, await asyncio.wait_for(reader.readline(), OWED_LIMIT), words)
                check_bytes(run, name, await asyncio.wait_for(reader.read(-1), OWED_LIMIT), b"")
            writer.close()
            run.figures["completed"] += 1
            served_from = begun
            run.works(name)

    tasks = []
    for index in range(8):
        name = f"visitor {index}"
        run.begins(name)
        tasks.append(run.watched(name, come_and_go(name, index % 2 == 0)))
    await asyncio.gather(*tasks)


async def udp(run):
    """One request at a time, a second to answer it; each request may be answered once."""
    loop = asyncio.get_running_loop()
    talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    talk.connect((run.arguments.host, run.arguments.port))
    talk.setblocking(False)
    asked, answered = 0, set()

    async def answer_to(number):
        """Takes what comes until request `number` is answered: an answer to one that was given up may come late."""
        while number not in answered:
            reply = await loop.sock_recv(talk, 2048)
            body = reply.split(b"\r\n")[1:2]
            found = next((asked for asked in range(number, 0, -1) if body == [b"tag-%d" % asked]), None)
            if found is None:
                run.violation("wrong", f"{reply!r} came after request {number}, and answers nothing that was asked")
            elif found in answered:
                run.violation("duplicated", f"request {found} was answered again after request {number}")
            else:
                answered.add(found)

    async def ask(name):
        nonlocal asked
        served_from = 0.0
        while not run.is_enough(served_from):
            asked += 1
            begun = time.monotonic()
            try:
                await loop.sock_sendall(talk, b"ECHO tag-%d\r\n" % asked)
                await asyncio.wait_for(answer_to(asked), ANSWER_LIMIT)
            except asyncio.TimeoutError:
                # A datagram may be lost: whoever needs the answer asks again.
                continue
            except ConnectionRefusedError:
                await asyncio.sleep(REFUSED_PAUSE)
                continue
            served_from = begun
            run.works(name)

    run.begins("udp")
    await run.watched("udp", ask("udp"))
    run.figures.update(asked=asked, answered=len(answered))
    if asked - len(answered) > 5:
        run.violation("lost", f"of {asked} requests {asked - len(answered)} were not answered")


async def crash(run):
    """One connection crashes the server and is reset. Others, which wait for nothing then, live on."""
    crashed = asyncio.Event()
    key = b"%s:%d" % (run.arguments.prefix.encode(), time.time_ns())

    async def crasher():
        reader, writer = await run.connect()
        writer.write(b"PING\r\n")
        await reply_of(reader)
        run.works("crasher")
        await run.killing.wait()
        writer.write(b"CRASH\r\n")
        try:
            said = await asyncio.wait_for(reader.read(-1), OWED_LIMIT)
            run.violation("wrong", f"the connection that crashed the server was closed in order, with {said!r}")
        except ConnectionResetError:
            run.figures["reset"] = True
        except asyncio.TimeoutError:
            run.violation("hung", "the connection that crashed the server was not reset")
        crashed.set()

    async def quiet(name, index):
        reader, writer = await run.connect()
        replies = Replies(run, name)
        for number in range(20):
            writer.write(b"INCR %s:%d\r\n" % (key, index))
            replies.take(int((await reply_of(reader))[1:]))
            if number == 9:
                run.works(name)
                await crashed.wait()
        writer.close()

    tasks = []
    run.begins("crasher")
    for index in range(4):
        name = f"quiet {index}"
        run.begins(name)
        tasks.append(run.watched(name, quiet(name, index)))
    await asyncio.gather(run.watched("crasher", crasher()), *tasks)


MODES = {
    "incr": incr,
    "bulk": bulk,
    "half-close": half_close,
    "slow-reader": slow_reader,
    "edges": edges,
    "udp": udp,
    "crash": crash,
}


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--connections", type=int, default=0)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--think-ms", type=float, default=0)
    parser.add_argument("--mixed", type=int, default=0)
    parser.add_argument("--visitors", type=int, default=0)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--prefix", default="failover")
    run = Run(parser.parse_args())
    listening = asyncio.ensure_future(run.listen())
    await MODES[run.arguments.mode](run)
    listening.cancel()
    clean = not any(run.count.values())
    print(json.dumps({**run.count, **run.figures, "violations": run.violations}), flush=True)
    sys.exit(0 if clean else 1)


asyncio.run(main())
