"""Writes keys with python-memcached. usage: write_python_memcached.py COUNT HOST:PORT..."""

import sys

import memcache

from keys import keys

client = memcache.Client(sys.argv[2:])
for key in keys(int(sys.argv[1])):
    assert client.set(key, key), key
