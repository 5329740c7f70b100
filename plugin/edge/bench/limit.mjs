// `limit()` in memory beside what others offer, in one run: decisions a second over 10,000 keys, bytes a key, and what is
// loaded, gzipped. Each limiter gets a rate that it never reaches, then one that it is always over.
// Usage: node --expose-gc limit.mjs
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { Ratelimit as UpstashRatelimit } from "@upstash/ratelimit";
import { build } from "esbuild";
import { RateLimiterMemory } from "rate-limiter-flexible";
import { memory, Ratelimit } from "tidegate";

const KEYS = 10_000;
/** Short rounds that take turns, the best of each: what else the machine does then hits all of them alike. */
const ROUNDS = 40;
const CALLS = 20_000;
const keys = Array.from({ length: KEYS }, (_, index) => `user-${index}`);

/** A Redis that answers its scripts at once: what is measured is Upstash's own code, at best. */
const answering = (remaining) => ({
  evalsha: async () => [remaining, Date.now() + 60_000, remaining],
  eval: async () => [remaining, Date.now() + 60_000, remaining],
  scriptLoad: async () => "",
});

const upstash = (remaining) =>
  new UpstashRatelimit({
    redis: answering(remaining),
    limiter: UpstashRatelimit.slidingWindow(10, "60 s"),
    ephemeralCache: new Map(),
    analytics: false,
  });

const limiters = {
  tidegate: {
    admitting: () => Ratelimit.quota({ rate: 10_000_000, window: "60 s" }),
    refusing: () => Ratelimit.quota({ rate: 1, window: "24 h" }),
    ask: async (limiter, key) => (await limiter.limit(key)).success,
  },
  "tidegate, sliding window": {
    admitting: () => Ratelimit.quota({ rate: 10_000_000, window: "60 s", algorithm: "sliding_window" }),
    refusing: () => Ratelimit.quota({ rate: 1, window: "24 h", algorithm: "sliding_window" }),
    ask: async (limiter, key) => (await limiter.limit(key)).success,
  },
  "rate-limiter-flexible 11.4.0": {
    admitting: () => new RateLimiterMemory({ points: 10_000_000, duration: 60 }),
    refusing: () => new RateLimiterMemory({ points: 1, duration: 86_400 }),
    ask: (limiter, key) => limiter.consume(key).then(() => true, () => false),
  },
  "@upstash/ratelimit 2.2.0, ephemeral cache": {
    admitting: () => upstash(9),
    refusing: () => upstash(-1),
    ask: async (limiter, key) => (await limiter.limit(key)).success,
  },
};

/** The best round of each limiter, nanoseconds a call. */
async function nanoseconds(which) {
  const entrants = Object.entries(limiters).map(([name, entrant]) => ({ name, limiter: entrant[which](), ask: entrant.ask, best: Infinity }));
  for (const { limiter, ask } of entrants) for (const key of keys) await ask(limiter, key);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const entrant of entrants) {
      const { limiter, ask } = entrant;
      const start = process.hrtime.bigint();
      for (let call = 0; call < CALLS; call += 1) await ask(limiter, keys[call % KEYS]);
      entrant.best = Math.min(entrant.best, Number(process.hrtime.bigint() - start) / CALLS);
    }
  }
  return new Map(entrants.map(({ name, best }) => [name, best]));
}

/** Heap and buffers that 50,000 keys take. */
async function bytesPerKey(make, ask) {
  const count = 50_000;
  globalThis.gc?.();
  const before = process.memoryUsage();
  const limiter = make();
  for (let key = 0; key < count; key += 1) await ask(limiter, `somebody-${key}`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  globalThis.gc?.();
  const after = process.memoryUsage();
  const used = after.heapUsed - before.heapUsed + (after.arrayBuffers - before.arrayBuffers);
  const cells = limiter.metrics?.().cell_bytes ?? 0;
  return Math.round((Math.max(used, 0) + cells) / count);
}

async function gzipped(code) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: import.meta.dirname },
    bundle: true, minify: true, format: "esm", platform: "node", write: false, outdir: "out", conditions: ["node"], logLevel: "error",
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

const rows = [];
const [admitted, refused] = [await nanoseconds("admitting"), await nanoseconds("refusing")];
for (const [name, { refusing, ask }] of Object.entries(limiters)) {
  const bytes = name.startsWith("tidegate")
    ? await bytesPerKey(() => Ratelimit.quota({ rate: 100, window: "1 h", store: memory({ maxKeys: 65_536 }) }), ask)
    : await bytesPerKey(refusing, ask);
  rows.push({
    limiter: name,
    "admitted a second": Math.round(1e9 / admitted.get(name)).toLocaleString("en"),
    "refused a second": Math.round(1e9 / refused.get(name)).toLocaleString("en"),
    "bytes a key": bytes,
  });
}
console.table(rows);
const wasm = gzipSync(readFileSync(new URL("./node_modules/tidegate/wasm/tidegate_bg.wasm", import.meta.url)), { level: 9 }).length;
console.log(`gzipped, minified: tidegate ${await gzipped('export * from "tidegate"')} JavaScript + ${wasm} wasm;`);
console.log(`rate-limiter-flexible ${await gzipped('export { RateLimiterMemory } from "rate-limiter-flexible"')};`);
console.log(`@upstash/ratelimit ${await gzipped('export * from "@upstash/ratelimit"; export * from "@upstash/redis"')} with @upstash/redis`);
process.exit(0);
