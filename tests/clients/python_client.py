"""python3-redis against the server at HOST PORT: python_client.py HOST PORT"""

import sys
import threading

import redis


def check(condition, *facts):
    if not condition:
        raise AssertionError(facts)


def same(got, wanted):
    check(got == wanted, f"got {got!r}, wanted {wanted!r}")


def refused(action, words):
    try:
        answer = action()
    except redis.ResponseError as error:
        check(words in str(error), f"{error} has not the words {words!r}")
    else:
        raise AssertionError(f"answered {answer!r} instead of an error with {words!r}")


def check_strings(client):
    same(client.ping(), True)
    same(client.set("text", "value"), True)
    same(client.get("text"), b"value")
    same(client.get("nothing"), None)
    same(client.set("text", "other", nx=True), None)
    same(client.set("text", "other", xx=True, get=True), b"value")
    same(client.getset("text", "third"), b"other")
    same(client.setrange("text", 7, "!"), 8)
    same(client.get("text"), b"third\0\0!")
    same(client.getrange("text", 1, -2), b"hird\0\0")
    same(client.getdel("text"), b"third\0\0!")
    same(client.exists("text"), 0)
    same(client.mset({"one": 1, "two": 2}), True)
    same(client.msetnx({"two": 3, "three": 3}), False)
    same(client.mget("one", "nothing", "two"), [b"1", None, b"2"])
    every_byte = bytes(range(256))
    client.set(every_byte, every_byte)
    same(client.get(every_byte), every_byte)
    large = b"x" * (1 << 20)
    client.set("large", large)
    same(client.get("large"), large)


def check_numbers(client):
    same(client.incr("count"), 1)
    same(client.incrby("count", 9), 10)
    same(client.decr("count", 3), 7)
    same(client.incrbyfloat("count", 0.25), 7.25)
    client.set("most", 2**63 - 1)
    refused(lambda: client.incr("most"), "increment or decrement would overflow")
    client.set("words", "ten")
    refused(lambda: client.incr("words"), "value is not an integer or out of range")


def check_expiry(client):
    client.set("short", "lived", px=600_000)
    check(0 < client.pttl("short") <= 600_000, client.pttl("short"))
    same(client.expire("short", 10, nx=True), False)
    same(client.expire("short", 1000, gt=True), True)
    same(client.persist("short"), True)
    same(client.ttl("short"), -1)
    same(client.ttl("nothing"), -2)
    same(client.getex("short", exat=1), b"lived")
    same(client.exists("short"), 0)


def check_pipeline(client):
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.set(f"key:{number}", number)
        pipeline.get(f"key:{number}")
    wanted = []
    for number in range(1000):
        wanted += [True, str(number).encode()]
    same(pipeline.execute(), wanted)
    same(len(set(client.scan_iter(match="key:*", count=37))), 1000)
    same(len(client.keys("key:?")), 10)


def check_concurrent_increments(host, port):
    """Increments of many connections at once: none is lost."""
    def add():
        own = redis.Redis(host, port, db=7)
        for _ in range(200):
            own.incr("shared")
        own.close()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(redis.Redis(host, port, db=7).get("shared"), b"1600")


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    client = redis.Redis(host, port, db=7, client_name="from-python")
    client.flushdb()
    check_strings(client)
    check_numbers(client)
    check_expiry(client)
    check_pipeline(client)
    check_concurrent_increments(host, port)
    same(client.client_getname(), "from-python")
    check("redis_version" in client.info(), "INFO without redis_version")
    client.rename("one", "uno")
    same(client.get("uno"), b"1")
    same(client.copy("uno", "dos"), True)
    same(client.type("dos"), b"string")
    refused(lambda: client.execute_command("NONSENSE"), "unknown command")
    client.flushdb()
    same(client.dbsize(), 0)
    client.close()


main()
