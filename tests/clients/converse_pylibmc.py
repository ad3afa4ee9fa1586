"""A conversation of pylibmc (libmemcached) with the server at HOST:PORT. usage: converse_pylibmc.py HOST:PORT"""

import sys
import time

import pylibmc

for behaviors in ({}, {"tcp_nodelay": True, "ketama": True}, {"no_block": True, "cas": True}, {"verify_keys": True}):
    c = pylibmc.Client([sys.argv[1]], behaviors=behaviors)
    c.delete_multi([f"k{n}" for n in range(300)] + ["n", "big", "none", "list"])
    assert c.get("none") is None
    assert c.set("k1", "one") and c.get("k1") == "one"
    assert c.set_multi({f"k{n}": n for n in range(300)}) == []
    assert c.get_multi([f"k{n}" for n in range(300)] + ["none"]) == {f"k{n}": n for n in range(300)}
    assert c.set("list", [1, {"a": (2, None)}]) and c.get("list") == [1, {"a": (2, None)}]
    assert c.add("k1", "x") is False and c.replace("none", "x") is False
    assert c.set("k1", b"b") and c.append("k1", b"c") and c.prepend("k1", b"a") and c.get("k1") == b"abc"
    assert c.set("n", 10) and c.incr("n", 5) == 15 and c.decr("n", 20) == 0
    try:
        c.incr("none")
        raise AssertionError("incremented what is not there")
    except pylibmc.NotFound:
        pass
    assert c.touch("n", 100)
    if behaviors.get("cas"):
        value, cas = c.gets("n")
        assert c.cas("n", 7, cas) and not c.cas("n", 8, cas)
    big = bytes(range(256)) * 3000
    assert c.set("big", big) and c.get("big") == big
    try:
        assert not c.set("big", b"x" * 3_000_000)
    except pylibmc.Error:
        pass
    assert c.get("k2") == 2
    assert c.set("soon", "x", time=-1) and c.get("soon") is None
    assert c.set("soon", "x", time=100) and c.get("soon") == "x"
    try:
        assert c.get("cut-the-line") is None
    except pylibmc.Error:
        pass
    for _ in range(400):  # libmemcached leaves a server alone for a second or two
        try:
            assert c.set("k2", "again") and c.get("k2") == "again"
            break
        except pylibmc.Error:
            time.sleep(0.05)
    assert c.get("k2") == "again"
    assert c.delete("n") and not c.delete("n")
    assert c.get_stats()
