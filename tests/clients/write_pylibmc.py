"""Writes keys with pylibmc's ketama_weighted. usage: write_pylibmc.py COUNT HOST:PORT..."""

import sys

import pylibmc

from keys import keys

client = pylibmc.Client(sys.argv[2:], behaviors={"ketama_weighted": True})
for key in keys(int(sys.argv[1])):
    assert client.set(key, key.encode()), key
