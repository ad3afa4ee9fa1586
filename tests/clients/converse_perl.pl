# A conversation of Cache::Memcached (pure Perl) with the server at HOST:PORT. usage: converse_perl.pl HOST:PORT
use strict;
use warnings;
use Cache::Memcached;

sub holds { my ($what, $is) = @_; die "$what\n" unless $is }

my $c = Cache::Memcached->new({ servers => [$ARGV[0]], select_timeout => 20, connect_timeout => 5 });
$c->delete($_) for (map { "k$_" } 0 .. 299), qw(n big none soon);
holds "a miss", !defined $c->get("none");
holds "set and get", $c->set("k1", "one") && $c->get("k1") eq "one";
holds "set", $c->set("k$_", $_) for 0 .. 299;
my $found = $c->get_multi((map { "k$_" } 0 .. 299), "none");
holds "get_multi", 300 == keys %$found && !grep { $found->{"k$_"} != $_ } 0 .. 299;
holds "add and replace", !$c->add("k1", "x") && !$c->replace("none", "x");
$c->set("k1", "b");
holds "append and prepend", $c->append("k1", "c") && $c->prepend("k1", "a") && $c->get("k1") eq "abc";
$c->set("n", 10);
holds "incr and decr", $c->incr("n", 5) == 15 && $c->decr("n", 20) == 0 && !$c->incr("none");
my $big = join("", map { chr } 0 .. 255) x 3000;
holds "a large binary value", $c->set("big", $big) && $c->get("big") eq $big;
$c->set("list", [1, { a => 2 }]);
holds "a structure", $c->get("list")->[1]{a} == 2;
$c->set("soon", "x", -1);
holds "expiry", !defined $c->get("soon") && $c->set("soon", "x", 100) && $c->get("soon") eq "x";
holds "the cut line gives no value", !defined $c->get("cut-the-line");
# a host that failed is left alone for some twenty seconds, by a table that all objects share
$c->forget_dead_hosts;
holds "after the cut", $c->set("k2", "again") && $c->get("k2") eq "again";
holds "delete", $c->delete("n") && !$c->delete("n") && !defined $c->get("n");
my $stats = $c->stats(["misc"]);
holds "stats", defined $stats->{hosts}{$ARGV[0]}{misc}{pid};
