"""A conversation of pymemcache with the server at HOST:PORT. usage: converse_pymemcache.py HOST:PORT"""

import sys

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError, MemcacheUnexpectedCloseError

host, port = sys.argv[1].rsplit(":", 1)
for make in (Client, PooledClient):
    for noreply in (False, True):
        c = make((host, int(port)), default_noreply=noreply, timeout=20)
        c.delete_many([f"k{n}" for n in range(300)] + ["n", "big", "none"])
        assert c.get("none") is None
        c.set("k1", "one")
        assert c.get("k1") == b"one"
        c.set_many({f"k{n}": str(n) for n in range(300)})
        assert c.get_many([f"k{n}" for n in range(300)] + ["none"]) == {f"k{n}": str(n).encode() for n in range(300)}
        assert c.add("k1", "x", noreply=False) is False
        assert c.replace("none", "x", noreply=False) is False
        assert c.append("k1", "2", noreply=False) and c.prepend("k1", "0", noreply=False) and c.get("k1") == b"012"
        value, cas = c.gets("k1")
        assert value == b"012" and c.cas("k1", "new", cas, noreply=False) is True
        assert c.cas("k1", "newer", cas, noreply=False) is False
        assert c.cas("none", "newer", cas, noreply=False) is None
        c.set("n", "10")
        assert c.incr("n", 5, noreply=False) == 15 and c.decr("n", 20, noreply=False) == 0
        assert c.incr("none", 1, noreply=False) is None
        assert c.touch("n", 100, noreply=False) is True and c.touch("none", 100, noreply=False) is False
        big = bytes(range(256)) * 3000
        c.set("big", big)
        assert c.get("big") == big
        try:
            c.set("big", b"x" * 3_000_000, noreply=False)
            raise AssertionError("too large was stored")
        except MemcacheServerError as e:
            assert b"too large" in e.args[0] if isinstance(e.args[0], bytes) else "too large" in e.args[0]
        assert c.get("big") is None
        try:
            c.incr("k1", 1, noreply=False)
            raise AssertionError("text was incremented")
        except MemcacheClientError:
            pass
        c.set("soon", "x", expire=-1, noreply=False)
        assert c.get("soon") is None and c.set("soon", "x", expire=100) and c.get("soon") == b"x"
        try:
            assert c.get("cut-the-line") is None
        except MemcacheUnexpectedCloseError:
            pass
        assert c.set("k2", "again") and c.get("k2") == b"again"
        assert c.delete("n", noreply=False) is True and c.delete("n", noreply=False) is False
        assert c.version()
        c.stats()
        c.close()
