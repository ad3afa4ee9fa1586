"""Writes keys with pymemcache's HashClient. usage: write_pymemcache.py COUNT HOST:PORT..."""

import sys

from pymemcache.client.hash import HashClient

from keys import keys

servers = [(host, int(port)) for host, port in (a.rsplit(":", 1) for a in sys.argv[2:])]
client = HashClient(servers, allow_unicode_keys=True)
for key in keys(int(sys.argv[1])):
    assert client.set(key, key.encode(), noreply=False), key
