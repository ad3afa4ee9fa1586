#!/bin/bash
# A conversation of libmemcached's tools with the server at HOST:PORT. usage: converse_tools.sh HOST:PORT
set -euo pipefail
server=--servers=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
fails() { if "$@" > out 2> err; then echo "succeeded: $*"; exit 1; fi; }

memcping "$server"
printf 'a small one' > small
head -c 500000 /dev/urandom > large
memccp "$server" small large
memcexist "$server" small
memcexist "$server" large
cmp <(memccat "$server" small) <(cat small; echo)
memccat "$server" --file=back large
cmp back large
memctouch "$server" --expire=100 small
fails memccat "$server" cut-the-line
cmp <(memccat "$server" small) <(cat small; echo)
memcrm "$server" small
fails memcexist "$server" small
fails memctouch "$server" --expire=100 small
memcstat "$server" > stats
grep -q 'pid:' stats
# load of its own, with several connections
memcslap "$server" --test=set --concurrency=4 --execute-number=200 > slap
memcslap "$server" --test=get --concurrency=4 --execute-number=200 --initial-load=200 >> slap
memcaslap -s "$1" --threads=1 --concurrency=8 --execute_number=2000 --verify=1.0 --win_size=1k > aslap
for none in get_misses verify_misses verify_failed; do grep -q "^$none: 0$" aslap; done
