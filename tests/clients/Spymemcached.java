// A conversation of spymemcached with the server at HOST:PORT.
// usage: java -cp /usr/share/java/spymemcached.jar Spymemcached.java HOST:PORT

import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;

public class Spymemcached {
    static void holds(String what, boolean is) {
        if (!is) {
            System.err.println(what);
            System.exit(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String[] address = arguments[0].split(":");
        var terms = new ConnectionFactoryBuilder().setOpTimeout(20_000).setMaxReconnectDelay(1).build();
        var c = new MemcachedClient(terms, List.of(new InetSocketAddress(address[0], Integer.parseInt(address[1]))));
        List<String> keys = new ArrayList<>();
        for (int n = 0; n < 300; n++) {
            keys.add("k" + n);
        }
        for (String key : keys) {
            c.delete(key);
        }
        for (String key : List.of("n", "big", "none", "soon")) {
            c.delete(key).get();
        }
        holds("a miss", c.get("none") == null);
        holds("set and get", c.set("k1", 0, "one").get() && c.get("k1").equals("one"));
        for (int n = 0; n < 300; n++) {
            c.set("k" + n, 0, n);
        }
        List<String> asked = new ArrayList<>(keys);
        asked.add("none");
        Map<String, Object> found = c.getBulk(asked);
        holds("getBulk finds all", found.size() == 300);
        for (int n = 0; n < 300; n++) {
            holds("getBulk", found.get("k" + n).equals(n));
        }
        holds("add and replace", !c.add("k1", 0, "x").get() && !c.replace("none", 0, "x").get());
        c.set("k1", 0, "b").get();
        holds("append", c.append(0, "k1", "c").get() && c.prepend(0, "k1", "a").get() && c.get("k1").equals("abc"));
        CASValue<Object> value = c.gets("k1");
        holds("cas", c.cas("k1", value.getCas(), "new") == CASResponse.OK);
        holds("cas again", c.cas("k1", value.getCas(), "newer") == CASResponse.EXISTS && c.get("k1").equals("new"));
        c.set("n", 0, "10").get();
        holds("incr and decr", c.incr("n", 5) == 15 && c.decr("n", 20) == 0 && c.incr("none", 1) == -1);
        holds("touch", c.touch("n", 100).get() && !c.touch("none", 100).get());
        // not compressible, so that it is large on the wire too
        byte[] big = new byte[768_000];
        new java.util.Random(1).nextBytes(big);
        holds("a large binary value", c.set("big", 0, big).get() && Arrays.equals((byte[]) c.get("big"), big));
        holds("set that is expired", c.set("soon", -1, "x").get() && c.get("soon") == null);
        holds("expiry", c.set("soon", 100, "x").get() && c.get("soon").equals("x"));
        try {
            holds("the cut line gives no value", c.get("cut-the-line") == null);
        } catch (RuntimeException cut) {
            // cancelled with the connection
        }
        boolean again = false;
        for (int attempts = 0; attempts < 100 && !again; attempts++) {
            try {
                again = c.set("k2", 0, "again").get();
            } catch (Exception stillAway) {
                Thread.sleep(50);
            }
        }
        holds("after the cut", again && c.get("k2").equals("again"));
        holds("delete", c.delete("n").get() && !c.delete("n").get() && c.get("n") == null);
        holds("stats", c.getStats().values().iterator().next().containsKey("pid"));
        holds("version", c.getVersions().size() == 1);
        c.shutdown();
        System.exit(0);
    }
}
