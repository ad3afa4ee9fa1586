// A conversation of the package memcached with the server at HOST:PORT. usage: converse_node_memcached.js HOST:PORT
const assert = require("node:assert");
const { promisify } = require("node:util");
const Memcached = require("./node/node_modules/memcached");

async function main() {
  const c = new Memcached(process.argv[2], { timeout: 20000, retries: 1, retry: 10, failures: 1000, maxValue: 4 << 20 });
  const on = (name) => promisify(c[name].bind(c));
  const [get, getMulti, gets, set, add, replace] = ["get", "getMulti", "gets", "set", "add", "replace"].map(on);
  const [cas, append, prepend, incr, decr, touch, del] =
    ["cas", "append", "prepend", "incr", "decr", "touch", "del"].map(on);

  const keys = Array.from({ length: 300 }, (_, n) => `k${n}`);
  await Promise.all([...keys, "n", "big", "none", "soon"].map((key) => del(key)));
  assert.equal(await get("none"), undefined);
  assert(await set("k1", "one", 0));
  assert.equal(await get("k1"), "one");
  await Promise.all(keys.map((key, n) => set(key, n, 0)));
  assert.deepEqual(await getMulti([...keys, "none"]), Object.fromEntries(keys.map((key, n) => [key, n])));
  await assert.rejects(add("k1", "x", 0));
  await assert.rejects(replace("none", "x", 0));
  await set("k1", "b", 0);
  assert(await append("k1", "c") && await prepend("k1", "a"));
  const found = await gets("k1");
  assert.equal(found.k1, "abc");
  assert(await cas("k1", "new", found.cas, 0));
  assert.equal(await cas("k1", "newer", found.cas, 0), false);
  assert.equal(await get("k1"), "new");
  await set("n", 10, 0);
  assert.equal(await incr("n", 5), 15);
  assert.equal(await decr("n", 20), 0);
  assert.equal(await incr("none", 1), false);
  assert(await touch("n", 100));
  // it writes every byte above 127 as two
  const big = Buffer.from(Array.from({ length: 256 * 2000 }, (_, n) => n % 256));
  assert(await set("big", big, 0));
  assert(big.equals(await get("big")));
  await set("soon", "x", -1);
  assert.equal(await get("soon"), undefined);
  assert(await set("soon", "x", 100));
  assert.equal(await get("soon"), "x");
  await get("cut-the-line").then((value) => assert.equal(value, undefined), () => {});
  assert(await set("k2", "again", 0));
  assert.equal(await get("k2"), "again");
  assert(await del("n"));
  assert.equal(await get("n"), undefined);
  const [stats] = await on("stats")();
  assert(stats.pid > 0);
  c.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
