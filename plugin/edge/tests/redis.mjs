// Counters in a real Redis through our gateway, as an Envoy's filter has them: three Workers that share one limit, Redis
// that dies, hangs or forgets its script, and clients that callers bring. TIDEGATE_GATEWAY is the gateway's program.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis as Upstash } from "@upstash/redis";
import { build } from "esbuild";
import { Redis as IoRedis } from "ioredis";
import { Miniflare } from "miniflare";
import { createClient } from "redis";
import { Ratelimit, upstash } from "tidegate";
import { expect, freePort, reached, summary, test } from "./helpers.mjs";

const TOKEN = "a-token-that-nobody-may-see";
const folder = mkdtempSync(join(tmpdir(), "tidegate-redis-"));
const [redisPort, gatewayPort] = [await freePort(), await freePort()];
const url = `http://127.0.0.1:${gatewayPort}`;
const running = [];

async function start(program, words, port) {
  const child = spawn(program, words, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  running.push(child);
  if (!(await reached(port))) throw new Error(`${program} does not listen`);
  return child;
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGCONT");
  child.kill("SIGKILL");
  await once(child, "exit");
}

const startRedis = () => start("redis-server", ["--port", String(redisPort), "--save", "", "--bind", "127.0.0.1"], redisPort);
const count = (decisions) => decisions.filter((decision) => decision.success).length;
const many = (limiters, key, times) => Promise.all(Array.from({ length: times }, (_, turn) => limiters[turn % limiters.length].limit(key)));
const over = (store, more) => Ratelimit.quota({ rate: 20, window: "1 h", store, onStoreError: "deny", storeTimeoutMs: 5_000, ...more });
const store = () => upstash({ url, token: TOKEN });

/** Waits until Redis decides again: the breaker lets one request a second try. */
async function isBack(limiter, how) {
  for (let turn = 0; turn < 100; turn += 1) {
    if ((await limiter.limit(`back-${turn}-${how}`)).success) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${how}: it is not asked again when it is back`);
}

try {
  let redis = await startRedis();
  await start(process.env.TIDEGATE_GATEWAY, ["--redis", `redis://127.0.0.1:${redisPort}/0`, "--listen", `127.0.0.1:${gatewayPort}`, "--token", TOKEN], gatewayPort);
  const raw = new IoRedis({ port: redisPort, host: "127.0.0.1", lazyConnect: false, retryStrategy: () => 50 });
  raw.on("error", () => {});

  await test("three limiters over one Redis admit exactly N, and the keys are those of the filter", async () => {
    const limiters = [store(), store(), store()].map((one) => over(one));
    expect(count(await many(limiters, "alice", 300)), 20, "of 300 at once");
    const keys = await raw.keys("*");
    expect(keys.length, 1, "keys");
    expect(/^tg1:\{default:v:[0-9a-f]{32}\}:quota:[0-9a-f]{16}$/.test(keys[0]), true, keys[0]);
    const refused = await limiters[0].limit("alice");
    expect([refused.reason, refused.remaining, refused.status], ["over_quota", 0, 429], "refused");
  });

  await test("every algorithm counts there", async () => {
    for (const algorithm of ["token_bucket", "leaky_bucket", "fixed_window", "sliding_window"]) {
      const decisions = await many([over(store(), { algorithm })], `algorithm-${algorithm}`, 60);
      expect(count(decisions), algorithm === "leaky_bucket" ? 1 : 20, algorithm);
    }
  });

  await test("three Workers that share the Redis admit exactly N", async () => {
    await build({
      entryPoints: [join(import.meta.dirname, "redis-worker.mjs")], bundle: true, format: "esm", conditions: ["workerd", "worker"],
      loader: { ".wasm": "copy" }, outfile: join(folder, "worker.js"), logLevel: "warning",
    });
    const wasm = readdirSync(folder).find((name) => name.endsWith(".wasm"));
    const modules = [{ type: "ESModule", path: join(folder, "worker.js") }, { type: "CompiledWasm", path: join(folder, wasm) }];
    const bindings = { URL: url, TOKEN };
    const workers = [1, 2, 3].map(() => new Miniflare({ modules, modulesRoot: folder, compatibilityDate: "2026-05-01", cf: false, bindings }));
    try {
      const ask = (turn) => workers[turn % 3].dispatchFetch("http://localhost/?key=shared").then((response) => response.status);
      const statuses = await Promise.all(Array.from({ length: 150 }, (_, turn) => ask(turn)));
      expect([200, 429].map((status) => statuses.filter((one) => one === status).length), [50, 100], "200s and 429s");
    } finally {
      await Promise.all(workers.map((worker) => worker.dispose()));
    }
  });

  await test("a request of two identities: what one refuses, the other is not charged; explain charges nothing", async () => {
    const rule = { window_seconds: 3_600 };
    const policy = { version: 1, rules: [{ name: "user", scope: "per_user", rate: 3, ...rule }, { name: "address", scope: "per_ip", rate: 2, ...rule }] };
    const limiter = new Ratelimit({ policy, store: store(), onStoreError: "deny", storeTimeoutMs: 5_000 });
    const request = { path: "/", user: "two", ip: "192.0.2.7" };
    const decisions = [];
    for (let turn = 0; turn < 4; turn += 1) decisions.push(await limiter.limit(request));
    expect(decisions.map((one) => one.success), [true, true, false, false], "successes");
    const told = await limiter.explain(request);
    expect(told.map((one) => [one.rule, one.remaining, one.conforms]), [["user", 1, true], ["address", 0, false]], "what is left");
  });

  await test("a reset forgets the counter in Redis, and other instances see it within a second", async () => {
    const [one, other] = [over(store()), over(store())];
    await many([one], "reset", 20);
    expect([(await one.limit("reset")).success, (await other.limit("reset")).success], [false, false], "used up");
    await one.reset("reset");
    expect([(await one.limit("reset")).remaining, (await other.limit("reset")).success], [19, false], "the other remembers");
    await new Promise((resolve) => setTimeout(resolve, 1_050));
    expect((await other.limit("reset")).remaining, 18, "a second later");
    expect((await one.explain("reset")).map((told) => told.remaining), [18], "a look");
    const wrong = upstash({ url, token: "wrong-token" });
    expect(await over(wrong).reset("reset").catch((error) => error.message), "Redis did not forget the counters: status 401", "a wrong token");
  });

  await test("a held request that leaves gives its place back in Redis", async () => {
    const strategy = { type: "throttle", max_delay_ms: 60_000 };
    const limiter = Ratelimit.quota({ rate: 10, window: "100 s", burst: 1, strategy, store: store(), shortCircuit: false, storeTimeoutMs: 5_000 });
    await limiter.limit("held");
    const leaving = new AbortController();
    const left = limiter.limit("held", { wait: true, signal: leaving.signal });
    await new Promise((resolve) => setTimeout(resolve, 100));
    leaving.abort(new RangeError("gone"));
    expect(await left.catch((error) => error.message), "gone", "the one that left");
    const { delayMs } = await limiter.limit("held");
    expect(delayMs > 9_000 && delayMs <= 10_000, true, `the next waits ${delayMs} ms`);
  });

  await test("a forgotten script is sent again", async () => {
    const limiter = over(store());
    expect((await limiter.limit("flushed")).remaining, 19, "before");
    await raw.script("FLUSH");
    expect((await limiter.limit("flushed")).remaining, 18, "after");
  });

  await test("clients that callers bring: @upstash/redis, ioredis and redis count in the same cells", async () => {
    const other = createClient({ url: `redis://127.0.0.1:${redisPort}` });
    await other.connect();
    const brought = [
      new Upstash({ url, token: TOKEN, enableTelemetry: false }),
      { eval: (script, keys, words) => raw.eval(script, keys.length, ...keys, ...words), evalsha: (sha, keys, words) => raw.evalsha(sha, keys.length, ...keys, ...words) },
      { eval: (script, keys, words) => other.eval(script, { keys, arguments: words }) },
    ];
    await raw.script("FLUSH");
    expect(count(await many(brought.map((one) => over(one)), "brought", 90)), 20, "of 90");
    await other.quit();
    for (const client of [raw, createClient()]) {
      let name;
      try { over(client); } catch (error) { name = error.name; }
      expect(name, "TypeError", "a client without an adapter");
    }
  });

  await test("a wrong token is a failure that shows no token", async () => {
    const errors = [];
    const limiter = over(upstash({ url, token: "wrong-token" }), { onError: (error) => errors.push(String(error)) });
    expect((await limiter.limit("k")).reason, "store_failed", "reason");
    expect(errors, ["Error: Redis did not decide: NOAUTH"], "errors");
    for (const bad of [{}, { url: "ftp://x" }, { url: "http://user:secret@x/" }, { url, token: "two words" }, { url, tokn: "x" }]) {
      let error;
      try { upstash(bad); } catch (thrown) { error = thrown; }
      expect([error?.name, /secret|two words/.test(error?.message)], ["TypeError", false], JSON.stringify(Object.keys(bad)));
    }
  });

  await test("Redis that hangs, and Redis that is killed half-way: local, allow, deny", async () => {
    const of = (onStoreError, errors) => over(store(), { rate: 2, onStoreError, storeTimeoutMs: 150, shortCircuit: false, onError: (error) => errors.push(error.message) });
    for (const [how, break_] of [["hangs", () => redis.kill("SIGSTOP")], ["is killed", () => stop(redis)]]) {
      const errors = [];
      const limiters = { local: of("local", errors), allow: of("allow", errors), deny: of("deny", errors) };
      for (const [name, limiter] of Object.entries(limiters)) expect((await limiter.limit(`before-${how}-${name}`)).success, true, "before");
      break_();
      const got = {};
      for (const [name, limiter] of Object.entries(limiters)) {
        got[name] = [];
        for (let turn = 0; turn < 4; turn += 1) got[name].push((await limiter.limit(`after-${how}`)).success);
      }
      expect(got, { local: [true, true, false, false], allow: [true, true, true, true], deny: [false, false, false, false] }, how);
      expect(errors.length, 12, `errors: ${errors[0]}`);
      // After five failures nobody waits any more.
      await limiters.deny.limit("fifth");
      const started = performance.now();
      for (let turn = 0; turn < 50; turn += 1) await limiters.deny.limit("pause");
      expect(performance.now() - started < 1_000, true, "fifty requests that do not wait");
      if (how === "hangs") redis.kill("SIGCONT");
      else redis = await startRedis();
      await isBack(limiters.deny, how);
    }
  });

  await test("a store that keeps identities apart is asked one by one, the scarcest first, and gives back", async () => {
    let crossings = 0;
    const ask = async (script, keys, words) => {
      if (new Set(keys.map((key) => key.split("}")[0])).size > 1) {
        crossings += 1;
        throw new Error("CROSSSLOT Keys in request don't hash to the same slot");
      }
      return raw.eval(script, keys.length, ...keys, ...words);
    };
    const rule = { window_seconds: 3_600 };
    const policy = { version: 1, rules: [{ name: "user", scope: "per_user", rate: 1, ...rule }, { name: "address", scope: "per_ip", rate: 5, ...rule }] };
    const limiter = new Ratelimit({ policy, store: { eval: ask }, onStoreError: "deny", shortCircuit: false });
    const successes = [];
    for (const user of ["apart-1", "apart-1", "apart-2"]) {
      const decision = await limiter.limit({ path: "/", user, ip: "192.0.2.99" });
      await decision.pending;
      successes.push(decision.success);
    }
    expect([successes, crossings], [[true, false, true], 1], "successes, and calls that crossed");
    const left = await limiter.explain({ path: "/", user: "apart-1", ip: "192.0.2.99" });
    expect(left.map((one) => one.remaining), [0, 3], "the address was charged for what was admitted");
    // The address is now the scarce one, and the user is asked first all the same: what it was charged comes back.
    for (let turn = 3; turn < 6; turn += 1) await limiter.limit({ path: "/", user: `apart-${turn}`, ip: "192.0.2.99" });
    const refused = await limiter.limit({ path: "/", user: "apart-6", ip: "192.0.2.99" });
    expect([refused.success, refused.rule], [false, "address"], "the address is over");
    await refused.pending;
    const user = await limiter.explain({ path: "/", user: "apart-6" });
    expect(user.map((one) => [one.rule, one.remaining]).at(0), ["user", 1], "the user's unit came back");
  });

  await test("whatever answers instead of Redis is no answer", async () => {
    let answer;
    const server = createServer((request, response) => request.resume().on("end", () => answer(response))).listen(0, "127.0.0.1");
    await once(server, "listening");
    const wrong = upstash({ url: `http://127.0.0.1:${server.address().port}`, token: "t" });
    const answers = [
      (response) => response.end("<html>"),
      (response) => response.end('{"result":[1,1e308,0,0,0,0,0]}'),
      (response) => response.end('{"result":[1,-1,0,1,-1,0,0]}'),
      (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      (response) => response.end("x".repeat(10_000_000)),
      (response) => response.destroy(),
    ];
    for (const [index, next] of answers.entries()) {
      answer = next;
      // The breaker belongs to a store: each answer meets a new one.
      const limiter = over(index < 3 ? wrong : upstash({ url: `http://127.0.0.1:${server.address().port}`, token: "t" }));
      expect((await limiter.limit("k")).reason, "store_failed", `answer ${index}`);
    }
    server.closeAllConnections();
    server.close();
  });
  raw.disconnect();
} finally {
  await Promise.all(running.map(stop));
  rmSync(folder, { recursive: true, force: true });
}
summary();
