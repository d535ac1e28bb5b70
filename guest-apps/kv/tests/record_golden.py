#!/usr/bin/python3
"""Fills in the replies of the transcripts in `golden/` from a real redis-server.

    record_golden.py HOST:PORT FILE...

A transcript is a list of scenarios, each on a fresh connection to an empty server:

    == name                 starts a scenario
    > SET a "b c"           sends these words as an array of bulk strings
    raw> PING\\r\\n           sends these bytes as they are
    < +OK\\r\\n               what came back (one line, escaped; written by this program)
    closed                  the server closed the connection (written by this program)

The committed replies are those of Redis 7.0.15. `tests/golden.rs` replays them against the server's logic.
"""
import shlex
import socket
import sys


def escape(data):
    out = []
    for byte in data:
        char = chr(byte)
        if char == "\\":
            out.append("\\\\")
        elif 32 <= byte < 127:
            out.append(char)
        elif char in "\r\n":
            out.append({"\r": "\\r", "\n": "\\n"}[char])
        else:
            out.append("\\x%02x" % byte)
    return "".join(out)


def unescape(text):
    return text.encode().decode("unicode_escape").encode("latin-1")


def words(line):
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    return [unescape(word) for word in lexer]


def encode(parts):
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def connect(host, port):
    return socket.create_connection((host, port), timeout=5)


def exchange(sock, data):
    """Sends, then reads until the server has been silent for a moment or has closed."""
    sock.sendall(data)
    got = b""
    sock.settimeout(0.05)
    while True:
        try:
            part = sock.recv(1 << 20)
        except socket.timeout:
            return got, False
        except ConnectionResetError:
            return got, True
        if not part:
            return got, True
        got += part


def record(host, port, path):
    with open(path) as file:
        lines = [line.rstrip("\n") for line in file]
    out = []
    sock = None
    for line in lines:
        if line.startswith("< ") or line == "closed":
            continue
        out.append(line)
        if line.startswith("== "):
            sock = connect(host, port)
            exchange(sock, encode([b"FLUSHALL"]))
            sock.close()
            sock = connect(host, port)
            continue
        if line.startswith("> "):
            data = encode(words(line[2:]))
        elif line.startswith("raw> "):
            data = unescape(line[5:])
        else:
            continue
        got, closed = exchange(sock, data)
        if got:
            out.append("< " + escape(got))
        if closed:
            out.append("closed")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    for path in sys.argv[2:]:
        record(host, int(port), path)


if __name__ == "__main__":
    main()
