// A conversation of the package memcache-client with the server at HOST:PORT. usage: converse_node_client.js HOST:PORT
const assert = require("node:assert");
const { MemcacheClient } = require("./node/node_modules/memcache-client");

async function main() {
  const server = { server: process.argv[2], maxConnections: 3 };
  const c = new MemcacheClient({ server, cmdTimeout: 20000 });
  const keys = Array.from({ length: 300 }, (_, n) => `k${n}`);
  const refused = (promise) => promise.then(() => false, () => true);
  await Promise.all([...keys, "n", "big", "none", "soon"].map((key) => refused(c.delete(key))));
  assert.equal(await c.get("none"), undefined);
  await c.set("k1", "one");
  assert.equal((await c.get("k1")).value, "one");
  await Promise.all(keys.map((key, n) => c.set(key, n)));
  const found = await c.get([...keys, "none"]);
  assert.deepEqual(Object.keys(found).sort(), [...keys].sort());
  keys.forEach((key, n) => assert.equal(found[key].value, n));
  assert(await refused(c.add("k1", "x")));
  assert(await refused(c.replace("none", "x")));
  await c.set("k1", "b");
  await c.append("k1", "c");
  await c.prepend("k1", "a");
  const { value, casUniq } = await c.gets("k1");
  assert.equal(value, "abc");
  await c.cas("k1", "new", { casUniq });
  assert(await refused(c.cas("k1", "newer", { casUniq })));
  assert.equal((await c.get("k1")).value, "new");
  await c.set("n", "10");
  assert.equal(Number(await c.incr("n", 5)), 15);
  assert.equal(Number(await c.decr("n", 20)), 0);
  await c.touch("n", 100);
  const big = Buffer.from(Array.from({ length: 256 * 3000 }, (_, n) => n % 256));
  await c.set("big", big);
  assert(big.equals((await c.get("big")).value));
  await c.set("soon", "x", { lifetime: -1 });
  assert.equal(await c.get("soon"), undefined);
  await c.set("soon", "x", { lifetime: 100 });
  assert.equal((await c.get("soon")).value, "x");
  await c.get("cut-the-line").then((found) => assert.equal(found, undefined), () => {});
  await c.set("k2", "again");
  assert.equal((await c.get("k2")).value, "again");
  await c.delete("n");
  assert.equal(await c.get("n"), undefined);
  assert((await c.version())[0] === "VERSION");
  c.shutdown();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
