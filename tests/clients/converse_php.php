<?php
// A conversation of php-memcached (libmemcached) with the server at HOST:PORT. usage: converse_php.php HOST:PORT

function holds(string $what, bool $is): void
{
    if (!$is) {
        fwrite(STDERR, "$what\n");
        exit(1);
    }
}

[$host, $port] = explode(":", $argv[1]);
foreach ([[], [Memcached::OPT_NO_BLOCK => true, Memcached::OPT_TCP_NODELAY => true]] as $options) {
    $c = new Memcached();
    $c->setOptions($options + [Memcached::OPT_RETRY_TIMEOUT => 1, Memcached::OPT_SERVER_FAILURE_LIMIT => 100]);
    $c->addServer($host, (int) $port);
    $keys = array_map(fn($n) => "k$n", range(0, 299));
    $c->deleteMulti(array_merge($keys, ["n", "big", "none", "soon", "list"]));
    holds("a miss", $c->get("none") === false && $c->getResultCode() === Memcached::RES_NOTFOUND);
    holds("set and get", $c->set("k1", "one") && $c->get("k1") === "one");
    holds("setMulti", $c->setMulti(array_combine($keys, range(0, 299))));
    holds("getMulti", $c->getMulti(array_merge($keys, ["none"])) === array_combine($keys, range(0, 299)));
    holds("add and replace", !$c->add("k1", "x") && !$c->replace("none", "x"));
    holds("a structure", $c->set("list", [1, ["a" => null]]) && $c->get("list") === [1, ["a" => null]]);
    $c->setOption(Memcached::OPT_COMPRESSION, false);
    $c->set("k1", "b");
    holds("append and prepend", $c->append("k1", "c") && $c->prepend("k1", "a") && $c->get("k1") === "abc");
    $found = $c->get("k1", null, Memcached::GET_EXTENDED);
    holds("cas", $c->cas($found["cas"], "k1", "new") && !$c->cas($found["cas"], "k1", "newer"));
    holds("cas tells why", $c->getResultCode() === Memcached::RES_DATA_EXISTS && $c->get("k1") === "new");
    $c->set("n", 10);
    holds("increment", $c->increment("n", 5) === 15 && $c->decrement("n", 20) === 0);
    holds("increment of nothing", $c->increment("none") === false);
    holds("touch", $c->touch("n", 100) && !$c->touch("none", 100));
    $big = str_repeat(implode("", array_map("chr", range(0, 255))), 3000);
    holds("a large binary value", $c->set("big", $big) && $c->get("big") === $big);
    $c->set("soon", "x", -1);
    holds("expiry", $c->get("soon") === false && $c->set("soon", "x", 100) && $c->get("soon") === "x");
    holds("the cut line gives no value", $c->get("cut-the-line") === false);
    // libmemcached leaves a server alone for OPT_RETRY_TIMEOUT seconds
    for ($until = microtime(true) + 20; !$c->set("k2", "again") && microtime(true) < $until;) {
        usleep(50_000);
    }
    holds("after the cut", $c->get("k2") === "again");
    holds("delete", $c->delete("n") && !$c->delete("n") && $c->get("n") === false);
    holds("stats", array_values($c->getStats())[0]["pid"] > 0 && count($c->getVersion()) === 1);
}
