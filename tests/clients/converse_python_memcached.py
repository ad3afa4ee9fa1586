"""A conversation of python-memcached with the server at HOST:PORT. usage: converse_python_memcached.py HOST:PORT"""

import sys

import memcache

c = memcache.Client([sys.argv[1]], cache_cas=True, socket_timeout=20, dead_retry=0)
c.delete_multi([f"k{n}" for n in range(300)] + ["n", "big", "none"])
assert c.get("none") is None
assert c.set("k1", "one") and c.get("k1") == "one"
assert c.set_multi({f"k{n}": n for n in range(300)}) == []
assert c.get_multi([f"k{n}" for n in range(300)] + ["none"]) == {f"k{n}": n for n in range(300)}
assert not c.add("k1", "x") and not c.replace("none", "x")
assert c.set("k1", "b") and c.append("k1", "c") and c.prepend("k1", "a") and c.get("k1") == "abc"
assert c.gets("k1") == "abc" and c.cas("k1", "new")
assert c.set("n", 10) and c.incr("n", 5) == 15 and c.decr("n", 20) == 0
assert c.incr("none") is None
assert c.touch("n", 100) and not c.touch("none", 100)
big = "v" * 900_000
assert c.set("big", big) and c.get("big") == big
binary = bytes(range(256)) * 3000
assert c.set("big", binary) and c.get("big") == binary
assert c.set("soon", "x", time=-1) and c.get("soon") is None
assert c.set("soon", "x", time=100) and c.get("soon") == "x"
assert c.get("cut-the-line") is None
assert c.set("k3", "again") and c.get("k3") == "again"
assert c.delete("n")
assert c.get_stats() and c.get("k2") == 2
c.disconnect_all()
