// Counters in Deno KV: never over, also when two processes' worth of limiters share a database.
import { denoKv, Ratelimit } from "tidegate";

const database = await Deno.openKv(":memory:");
let failed = 0;

function expect(found, wanted, what) {
  const fits = JSON.stringify(found) === JSON.stringify(wanted);
  console.log(`${fits ? "ok  " : "FAIL"} ${what}${fits ? "" : `: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`}`);
  if (!fits) failed += 1;
}

async function admitted(stores, key, count) {
  const limiters = stores.map((store) => Ratelimit.quota({ rate: 20, window: "1 h", store, onStoreError: "deny", storeTimeoutMs: 60_000 }));
  const decisions = await Promise.all(Array.from({ length: count }, (_, turn) => limiters[turn % limiters.length].limit(key)));
  const reasons = new Set(decisions.map((decision) => decision.reason));
  return [decisions.filter((decision) => decision.success).length, [...reasons].sort()];
}

expect(await admitted([denoKv(database)], "one", 600), [20, ["over_quota", null]], "600 at once from one process: exactly 20");
const [several] = await admitted([denoKv(database), denoKv(database), denoKv(database)], "three", 300);
expect(several, 20, "300 at once from three that do not know of each other: exactly 20");

const policy = {
  version: 1,
  rules: [
    { name: "user", scope: "per_user", rate: 3, window_seconds: 60 },
    { name: "address", scope: "per_ip", rate: 2, window_seconds: 60 },
  ],
};
const limiter = new Ratelimit({ policy, store: denoKv(database) });
const request = { path: "/", user: "u", ip: "192.0.2.1" };
const successes = [];
for (let turn = 0; turn < 4; turn += 1) successes.push((await limiter.limit(request)).success);
expect(successes, [true, true, false, false], "two rules: the stricter decides");
expect((await limiter.explain(request)).map((rule) => rule.remaining), [1, 0], "what is refused is not charged");
await limiter.reset("u", { rule: "user" });
expect((await limiter.explain("u", { rule: "user" })).map((rule) => rule.remaining), [3], "after a reset");

const throttled = Ratelimit.quota({ rate: 10, window: "1 s", burst: 1, strategy: { type: "throttle", max_delay_ms: 5000 }, store: denoKv(database) });
await throttled.limit("t");
const leaving = new AbortController();
const left = throttled.limit("t", { wait: true, signal: leaving.signal });
await new Promise((resolve) => setTimeout(resolve, 20));
leaving.abort(new RangeError("gone"));
expect(await left.catch((error) => error.message), "gone", "a held request that leaves");
await new Promise((resolve) => setTimeout(resolve, 50));
const [{ value }] = await Array.fromAsync(database.list({ prefix: ["tidegate"] })).then((all) => all.filter(({ key }) => key[1].includes(":quota:")).slice(-1));
expect(value.state.length, 24, "24 bytes a cell");

database.close();
console.log(`${failed === 0 ? "all" : "not all"} passed`);
Deno.exit(failed > 0 ? 1 : 0);
