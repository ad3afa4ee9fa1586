# A conversation of Cache::Memcached::Fast with the server at HOST:PORT. usage: converse_perl_fast.pl HOST:PORT
use strict;
use warnings;
use Cache::Memcached::Fast;

sub holds { my ($what, $is) = @_; die "$what\n" unless $is }

for my $nowait (0, 1) {
    my $c = Cache::Memcached::Fast->new({ servers => [$ARGV[0]], io_timeout => 20, nowait => $nowait, utf8 => 0 });
    $c->delete_multi((map { "k$_" } 0 .. 299), qw(n big none soon));
    holds "a miss", !defined $c->get("none");
    holds "set and get", $c->set("k1", "one") && $c->get("k1") eq "one";
    my $stored = $c->set_multi(map { ["k$_", $_] } 0 .. 299);
    holds "set_multi", 300 == grep { $_ } values %$stored;
    my $found = $c->get_multi((map { "k$_" } 0 .. 299), "none");
    holds "get_multi", 300 == keys %$found && !grep { $found->{"k$_"} != $_ } 0 .. 299;
    holds "add and replace", !$c->add("k1", "x") && !$c->replace("none", "x");
    $c->set("k1", "b");
    holds "append and prepend", $c->append("k1", "c") && $c->prepend("k1", "a") && $c->get("k1") eq "abc";
    my $pair = $c->gets("k1");
    holds "gets", $pair->[1] eq "abc";
    holds "cas", $c->cas("k1", $pair->[0], "new") && !$c->cas("k1", $pair->[0], "newer") && $c->get("k1") eq "new";
    $c->set("n", 10);
    holds "incr and decr", $c->incr("n", 5) == 15 && $c->decr("n", 20) == 0 && !$c->incr("none");
    holds "touch", $c->touch("n", 100) && !$c->touch("none", 100);
    my $big = join("", map { chr } 0 .. 255) x 3000;
    holds "a large binary value", $c->set("big", $big) && $c->get("big") eq $big;
    $c->set("soon", "x", -1);
    holds "expiry", !defined $c->get("soon") && $c->set("soon", "x", 100) && $c->get("soon") eq "x";
    holds "the cut line gives no value", !defined $c->get("cut-the-line");
    holds "after the cut", $c->set("k2", "again") && $c->get("k2") eq "again";
    holds "delete", $c->delete("n") && !$c->delete("n") && !defined $c->get("n");
    holds "version", values %{ $c->server_versions };
}
