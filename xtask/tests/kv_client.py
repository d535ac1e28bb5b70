"""A client of the pair, on the Redis library for Python that ships with Debian.

    kv_client.py HOST PORT write SEED COUNT     writes COUNT keys; which, only SEED decides
    kv_client.py HOST PORT verify SEED COUNT    reads them back and compares every byte
    kv_client.py HOST PORT expire               writes keys with a time to live, prints when it began
    kv_client.py HOST PORT verify-expire WHEN   checks that each is there until its time, and not after
"""

import random
import sys
import time

import redis

MIB = 1 << 20
SIZES = [0, 1, 2, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 65537, MIB - 1, MIB]
# Milliseconds to live, for the keys of `expire`; None stays for ever.
LIVES = {"brief": 2500, "longer": 6000, "hour": 3_600_000, "for-ever": None}
# How early a key may vanish, in seconds: the clocks of two machines agree no better.
EARLY = 0.1
# How late a key may vanish or a lifetime be read, in seconds: a loaded host schedules a guest late.
LATE = 1.0


def connect(host, port):
    """A connected client; waits for a master, for a takeover may be under way."""
    deadline = time.monotonic() + 20
    while True:
        client = redis.Redis(host=host, port=port, socket_timeout=5, socket_connect_timeout=0.5)
        try:
            client.ping()
            return client
        except (redis.ConnectionError, redis.TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def pairs(seed, count):
    """The keys and values that belong to a seed."""
    chance = random.Random(seed)
    for index in range(count):
        size = SIZES[index] if index < len(SIZES) else int(2 ** chance.uniform(0, 17))
        key = b"%d:%d:" % (seed, index) + chance.randbytes(chance.randrange(0, 40))
        yield key, chance.randbytes(size)


def write(client, seed, count):
    total = 0
    for key, value in pairs(int(seed), int(count)):
        assert client.set(key, value) is True, f"SET {key!r} was refused"
        total += len(value)
    print(f"wrote {count} keys, {total} bytes")


def verify(client, seed, count):
    wrong = []
    for key, value in pairs(int(seed), int(count)):
        found = client.get(key)
        if found != value:
            wrong.append(f"{key!r}: {'missing' if found is None else f'{len(found)} other bytes'}, want {len(value)}")
    if wrong:
        sys.exit(f"{len(wrong)} of {count} keys are wrong:\n" + "\n".join(wrong[:20]))
    print(f"verified {count} keys")


def expire(client):
    begun = time.time()
    for name, life_ms in LIVES.items():
        assert client.set(name, name, px=life_ms) is True
    print(begun)


def verify_expire(client, begun):
    begun = float(begun)
    waiting = dict(LIVES)
    while "brief" in waiting or "longer" in waiting:
        for name, life_ms in list(waiting.items()):
            before = time.time() - begun
            left_ms = client.pttl(name)
            value = client.get(name)
            after = time.time() - begun
            if life_ms is None:
                assert (left_ms, value) == (-1, name.encode()), f"{name}: pttl {left_ms}, value {value}"
            elif value is None:
                assert after > life_ms / 1000 - EARLY, f"{name} is gone after {after:.3f} s, before its time"
                assert before < life_ms / 1000 + LATE, f"{name} was still there after {before:.3f} s"
                del waiting[name]
            else:
                assert before < life_ms / 1000 + LATE, f"{name} is still there after {before:.3f} s"
                if left_ms >= 0:
                    true_ms = life_ms - before * 1000
                    assert abs(left_ms - true_ms) < LATE * 1000, f"{name}: pttl {left_ms}, want about {true_ms:.0f}"
        time.sleep(0.01)
    print("every key lived exactly as long as it was told")


def main():
    host, port, what, *rest = sys.argv[1:]
    client = connect(host, int(port))
    {"write": write, "verify": verify, "expire": expire, "verify-expire": verify_expire}[what](client, *rest)


main()
