// blockUntilReady with every strategy, waits that are longer than a timer, and work that fails before it begins.
import { clock, equal, policy, rule, throws } from "./asserts.mjs";

const per = (strategy, more) => ({ rate: 1, window: "1 h", burst: 1, strategy, ...more });

/** How long it took. */
async function timed(run) {
  const started = performance.now();
  return [await run(), performance.now() - started];
}

export const tests = {
  async "blockUntilReady waits, and gives up in time"({ Ratelimit }) {
    const limiter = Ratelimit.quota({ rate: 10, window: "1 s", burst: 1 });
    equal((await limiter.blockUntilReady("k", 1_000)).success, true);
    const [second, tookMs] = await timed(() => limiter.blockUntilReady("k", 1_000));
    equal([second.success, tookMs >= 50], [true, true], "the second");
    const slow = Ratelimit.quota({ rate: 1, window: "20 s" });
    await slow.limit("k");
    const [third, gaveUpMs] = await timed(() => slow.blockUntilReady("k", 10_000));
    equal([third.outcome, third.status, gaveUpMs < 5_000], ["limited", 429, true], "what could not be in time");
    for (const bad of [Number.NaN, 0, -1, "1"]) await throws(TypeError, () => limiter.blockUntilReady("k", bad));
    await throws(TypeError, () => limiter.blockUntilReady("k", 1, { wate: true }), "blockUntilReady()");
    const leaving = new AbortController();
    const left = Ratelimit.quota(per("retry_after"));
    await left.limit("k");
    const waiting = left.blockUntilReady("k", 1e12, { signal: leaving.signal });
    setTimeout(() => leaving.abort(new RangeError("gone")), 20);
    await throws(RangeError, () => waiting, "gone");
  },

  async "blockUntilReady with throttle holds what fits, and gives back what does not"({ Ratelimit }) {
    const strategy = { type: "throttle", max_delay_ms: 20_000 };
    const limiter = Ratelimit.quota({ rate: 10, window: "1 s", burst: 1, strategy });
    await limiter.limit("k");
    const [held, tookMs] = await timed(() => limiter.blockUntilReady("k", 1_000));
    equal([held.success, held.outcome, tookMs >= 50], [true, "delayed", true], "what fits is held, not told");
    const now = clock();
    const still = Ratelimit.quota({ rate: 1, window: "20 s", burst: 1, strategy, now });
    await still.limit("k");
    for (const options of [undefined, { wait: true }, { wait: false }]) {
      const [late, lateMs] = await timed(() => still.blockUntilReady("k", 100, options));
      equal([late.success, late.outcome, late.status, late.retryAfterMs], [false, "limited", 429, 20_000], "what does not fit");
      equal([lateMs < 5_000, still.metrics().waiting], [true, 0], "it does not wait, and no place is kept");
    }
    equal((await still.limit("k")).delayMs, 20_000, "the place that was given back, three times");
    const asRequest = new Ratelimit({ policy: policy(rule({ rate: 1, window_seconds: 20, burst: 1, strategy })), now });
    await asRequest.limit({ path: "/", user: "u" });
    const refused = await asRequest.blockUntilReady({ path: "/", user: "u" }, 100);
    equal([refused.outcome, (await refused.response().json())["violated-policies"]], ["limited", ["r"]], "a request");
    equal((await asRequest.limit({ path: "/", user: "u" })).delayMs, 20_000, "its place was given back");
  },

  async "blockUntilReady with throttle gives back to a store elsewhere"({ Ratelimit }) {
    const asked = [];
    const answers = ["granted\n2000000 1 0 2000000", "refused\n2000000 0 0 2000000"];
    const store = { acquire: async (question) => (asked.push(question), answers.shift()), refund: async () => asked.push("refund") };
    const limiter = Ratelimit.quota({ rate: 1, window: "2 s", burst: 1, strategy: { type: "throttle" }, store, now: clock() });
    const decision = await limiter.blockUntilReady("k", 100);
    equal([decision.outcome, decision.retryAfterMs, asked.length, asked[1]], ["limited", 2_000, 3, "refund"]);
    const mayWait = (question) => question.split(" ").at(-1);
    equal([mayWait(asked[0]), mayWait(asked[2])], ["1", "0"], "after that nothing is reserved");
  },

  async "blockUntilReady with hard, graceful and queue"({ Ratelimit }, { queueTo }) {
    const now = clock();
    const hard = Ratelimit.quota(per("hard", { now }));
    await hard.limit("k");
    equal((await hard.blockUntilReady("k", 100)).outcome, "limited", "hard");

    const of = (strategy, queue) => new Ratelimit({ policy: policy(rule({ rate: 1, window_seconds: 3_600, strategy })), queue, now });
    const request = { path: "/", user: "u", body: "" };
    for (const [form, success] of [[{ forward: { path: "/lite" } }, true], [{ respond: { body: "busy" } }, false]]) {
      const graceful = of({ type: "graceful", ceiling: 3, ...form });
      await graceful.limit(request);
      const degraded = await graceful.blockUntilReady(request, 1_000);
      equal([degraded.outcome, degraded.success], ["degraded", success], Object.keys(form)[0]);
      equal((await graceful.limit(request)).outcome, "degraded", "it was charged once: there is room below the ceiling");
      equal((await graceful.limit(request)).outcome, "limited", "the ceiling");
    }

    const jobs = [];
    const queueing = of({ type: "queue", cluster: "unused", authority: "unused" }, queueTo(async (job) => void jobs.push(job)));
    await queueing.limit(request);
    const queued = await queueing.blockUntilReady(request, 500);
    equal([queued.outcome, queued.status, jobs.length], ["queued", 202, 1], "queue");
  },

  async "blockUntilReady does not hammer a store that fails"({ Ratelimit }) {
    let asked = 0;
    const store = { acquire: async () => { asked += 1; throw new Error("down"); } };
    const limiter = Ratelimit.quota({ rate: 1, window: 60, store, onStoreError: "deny", onError: () => {} });
    const decision = await limiter.blockUntilReady("k", 250);
    equal([decision.reason, asked <= 3], ["store_failed", true], `asked ${asked} times`);
  },

  async "a wait that is longer than a timer is slept in pieces"(_, { sleep }) {
    const { setTimeout: real } = globalThis;
    const told = [];
    globalThis.setTimeout = (run, millis) => (told.push(millis), real(run, 0));
    try {
      await sleep(2 ** 32 + 5);
      await sleep(7);
    } finally {
      globalThis.setTimeout = real;
    }
    equal(told, [2 ** 31 - 1, 2 ** 31 - 1, 7, 7]);
  },

  async "what throws before it gives a promise is a failure, and no timer is left behind"({ Ratelimit }, { queueTo }) {
    const { setTimeout: begin, clearTimeout: end } = globalThis;
    const running = new Set();
    globalThis.setTimeout = (...words) => {
      const timer = begin(...words);
      running.add(timer);
      return timer;
    };
    globalThis.clearTimeout = (timer) => (running.delete(timer), end(timer));
    try {
      const errors = [];
      const strategy = { type: "queue", cluster: "unused", authority: "unused", full_status: 503 };
      const queue = queueTo(() => { throw new RangeError("not async"); });
      const limiter = new Ratelimit({ policy: policy(rule({ rate: 1, strategy })), queue, now: clock(), onError: (error) => errors.push(error.message) });
      const ask = () => limiter.limit({ path: "/", user: "u", body: "" });
      await ask();
      const refused = await ask();
      equal([refused.outcome, refused.status, errors, limiter.metrics().queue_failures], ["limited", 503, ["not async"], 1], "a queue");
      const store = { acquire: () => { throw new RangeError("not async either"); } };
      const elsewhere = Ratelimit.quota({ rate: 1, window: 60, store, onError: (error) => errors.push(error.message) });
      equal([(await elsewhere.limit("k")).success, errors[1]], [true, "not async either"], "a store");
      equal(running.size, 0, "timers that run on");
    } finally {
      Object.assign(globalThis, { setTimeout: begin, clearTimeout: end });
    }
  },
};
