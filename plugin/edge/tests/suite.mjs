// What the package promises, in whatever runtime this is. Each test gets the package; `internals` opens what users
// cannot reach, such as the engine's memory, to break it.

import { tests as adapters } from "./adapters.mjs";
import { clock, equal, policy, rule, throws } from "./asserts.mjs";
import { tests as counters } from "./counters.mjs";
import { tests as ready } from "./ready.mjs";

const tests = {
  async "a quota admits its rate and says when there is more"({ Ratelimit }) {
    const now = clock();
    const limiter = Ratelimit.quota({ rate: 2, window: "10 s", now });
    const first = await limiter.limit("user-1");
    equal([first.success, first.limit, first.remaining, first.rule], [true, 2, 1, "quota"]);
    equal([first.reset - now(), first.retryAfter, first.delayMs, first.outcome], [5_000, 0, 0, "allowed"]);
    equal(await first.pending, undefined);
    equal((await limiter.limit({ key: "user-1" })).success, true);
    const third = await limiter.limit("user-1");
    equal([third.success, third.remaining, third.retryAfter, third.reason], [false, 0, 5, "over_quota"]);
    equal((await limiter.limit("user-2")).success, true, "another key");
    now.nowMs += 5_000;
    equal((await limiter.limit("user-1")).success, true, "after retryAfter");
  },

  async "a refusal is 429 problem+json with the same headers as the proxy's"({ Ratelimit }) {
    const limiter = Ratelimit.quota({ rate: 1, window: 60, now: clock() });
    const first = await limiter.limit("k");
    equal(first.headers, { "ratelimit-policy": '"quota";q=1;w=60', ratelimit: '"quota";r=0;t=60' });
    await throws(Error, () => first.response(), "nothing to answer");
    const decision = await limiter.limit("k");
    const response = decision.response();
    equal(response.status, 429);
    equal(response.headers.get("retry-after"), "60");
    equal(response.headers.get("content-type"), "application/problem+json");
    equal(response.headers.get("cache-control"), "no-store");
    equal((await response.json())["violated-policies"], ["quota"]);
  },

  async "every algorithm is there"({ Ratelimit }) {
    for (const algorithm of ["token_bucket", "leaky_bucket", "fixed_window", "sliding_window"]) {
      const limiter = Ratelimit.quota({ rate: 5, window: "1 m", algorithm, now: clock() });
      let admitted = 0;
      for (let turn = 0; turn < 20; turn += 1) admitted += (await limiter.limit("k")).success ? 1 : 0;
      equal(admitted, algorithm === "leaky_bucket" ? 1 : 5, algorithm);
    }
  },

  async "a bad policy tells every mistake with its pointer"({ Ratelimit, PolicyError }) {
    const bad = policy({ name: "a b", scope: "per_usr", rate: 0, window_seconds: 60 });
    const error = await throws(PolicyError, () => new Ratelimit({ policy: bad }));
    equal(error.mistakes.map((mistake) => mistake.pointer), ["/rules/0/name", "/rules/0/scope", "/rules/0/rate"]);
    equal(error.mistakes[1].suggestion, "per_user");
    await throws(PolicyError, () => new Ratelimit({ policy: "{" }));
    await throws(PolicyError, () => new Ratelimit({ policy: '{"version":1,"version":1,"rules":[]}' }));
    await throws(TypeError, () => new Ratelimit({}));
    await throws(TypeError, () => new Ratelimit({ policy: bad, storee: 1 }), "storee");
  },

  async "bad values are TypeErrors, and nothing is charged"({ Ratelimit }) {
    const now = clock();
    const limiter = Ratelimit.quota({ rate: 2, window: 60, now });
    for (const cost of [Number.NaN, -1, 1.5, Infinity, "1", 3, {}, 2n]) {
      await throws(TypeError, () => limiter.limit("k", { cost }));
    }
    for (const key of ["", {}, "\ud800", null, undefined, 1, [], { key: "" }, { key: {} }, { key: "a\udfff" }]) {
      await throws(TypeError, () => limiter.limit(key));
    }
    await throws(TypeError, () => limiter.limit("k", { rate: 2 }), "rate");
    await throws(TypeError, () => limiter.limit("k", { rule: "other" }), "other");
    const web = new Ratelimit({ policy: policy(rule({ scope: "per_ip" })), now });
    for (const ip of ["", 4, "1.2.3.4\0"]) await throws(TypeError, () => web.limit(new Request("http://a/"), { ip }));
    for (const user of ["", 4, "\ud800", "a\0b"]) await throws(TypeError, () => web.limit(new Request("http://a/"), { user }));
    await throws(TypeError, () => web.limit({ path: "no-slash" }));
    await throws(TypeError, () => web.limit(new Request("http://a/"), { cost: 5, ip: "1.2.3.4" }), "at most 2");
    equal((await limiter.limit("k", { cost: 2 })).success, true, "nothing was charged");
    equal((await web.limit(new Request("http://a/"), { ip: "1.2.3.4", cost: 2 })).success, true, "nothing was charged");
  },

  async "prototypes change nothing"({ Ratelimit }) {
    const limiter = Ratelimit.quota({ rate: 1, window: 60, now: clock() });
    equal((await limiter.limit("k", { __proto__: { cost: 0 } })).success, true);
    equal((await limiter.limit("k", { __proto__: { cost: 0 } })).success, false);
    await throws(TypeError, () => limiter.limit("k", JSON.parse('{"__proto__":{"cost":0}}')));
    for (const name of ["constructor", "__proto__", "toString"]) await throws(TypeError, () => limiter.limit("k", { rule: name }));
    Object.prototype.cost = 0;
    try {
      equal((await limiter.limit("k", {})).success, false);
    } finally {
      delete Object.prototype.cost;
    }
  },

  async "x-forwarded-for is not read unless the policy says so"({ Ratelimit }) {
    const now = clock();
    const limiter = new Ratelimit({ policy: policy(rule({ scope: "per_ip" })), now });
    const outcomes = [];
    for (let turn = 0; turn < 4; turn += 1) {
      const request = new Request("http://a/", { headers: { "x-forwarded-for": `10.0.0.${turn}` } });
      outcomes.push((await limiter.limit(request, { ip: "192.0.2.1" })).success);
    }
    equal(outcomes, [true, true, false, false]);
    const trusting = { ...policy(rule({ scope: "per_ip" })), identity: { ip: { from: { x_forwarded_for: { trusted_hops: 1 } } } } };
    const told = new Ratelimit({ policy: trusting, now });
    for (let turn = 0; turn < 4; turn += 1) {
      const request = new Request("http://a/", { headers: { "x-forwarded-for": `10.0.0.${turn}` } });
      equal((await told.limit(request, { ip: "192.0.2.1" })).success, true, "told to read it");
    }
  },

  async "keys that look alike are not"({ Ratelimit }) {
    const limiter = Ratelimit.quota({ rate: 1, window: 60, now: clock() });
    const long = "x".repeat(8_192);
    const keys = ["a|b", "a\0b", "a", "b", "ä", "a\u0308", `${long}1`, `${long}2`, "1.2.3.4", "__proto__", "\u{1f600}"];
    for (const key of keys) equal((await limiter.limit(key)).success, true, `first of ${key.slice(-8)}`);
    for (const key of keys) equal((await limiter.limit(key)).success, false, `second of ${key.slice(-8)}`);
    const policies = policy(rule({ name: "u", rate: 1 }), rule({ name: "i", scope: "per_ip", rate: 1 }));
    const both = new Ratelimit({ policy: policies, now: clock() });
    equal((await both.limit("1.2.3.4", { rule: "i" })).success, true);
    equal((await both.limit({ path: "/", ip: "1.2.3.4", user: "x" })).success, true, "a user called like an address");
  },

  async "a user that code names shares a cell with the same key, and no header does"({ Ratelimit }) {
    const now = clock();
    const identity = { user: [{ header: "x-api-key" }] };
    const limiter = new Ratelimit({ policy: { ...policy(rule()), identity }, now });
    equal((await limiter.limit("alice")).remaining, 1);
    equal((await limiter.limit(new Request("http://a/"), { user: "alice" })).remaining, 0);
    const forged = new Request("http://a/", { headers: { "x-api-key": "alice" } });
    equal((await limiter.limit(forged, { ip: "192.0.2.1" })).remaining, 1);
  },

  async "shadow rules and admins are counted, never limited"({ Ratelimit }) {
    const now = clock();
    const limiter = new Ratelimit({ policy: { ...policy(rule({ mode: "shadow" })), admins: { user_ids: [] } }, now });
    for (let turn = 0; turn < 5; turn += 1) equal((await limiter.limit("k")).success, true);
    equal(limiter.metrics().rules.r, { conforming: 2, limited: 0, would_limit: 3 });
    const admin = new Ratelimit({ policy: { ...policy(rule()), admins: { user_ids: ["root"] } }, now });
    for (let turn = 0; turn < 5; turn += 1) equal((await admin.limit("root")).success, true);
    for (let turn = 0; turn < 3; turn += 1) equal((await admin.limit("k")).success, turn < 2);
  },

  async "an override lifts what it names, until it ends"({ Ratelimit }) {
    const now = clock();
    const limiter = new Ratelimit({ policy: policy(rule({ rate: 1 }), rule({ name: "i", scope: "per_ip", rate: 1 })), now });
    const override = { admin_id: "ops", target_user_id: "vip", reason: "testing", duration_minutes: 5, unlimited: true };
    for (const bad of [{ duration_minutes: 0 }, { duration_minutes: 2 ** 63 }, { reason: "x" }, { unlimited: false }, { target_rule: "none" }, { target_user_id: "" }, { rate_multiplier: 2 }, { target_ip: "0.0.0.0/0" }]) {
      await throws(TypeError, () => limiter.grant({ ...override, ...bad }));
    }
    const given = limiter.grant(override);
    equal(Date.parse(given.expires_at) - Date.parse(given.created_at), 300_000);
    const ask = (user) => limiter.limit({ path: "/", user, ip: `192.0.2.${(ask.count = (ask.count ?? 0) + 1)}` });
    for (let turn = 0; turn < 3; turn += 1) equal((await ask("vip")).success, true);
    equal([(await ask("other")).success, (await ask("other")).success], [true, false]);
    now.nowMs += 300_000;
    equal([(await ask("vip")).success, (await ask("vip")).success], [true, false]);
    equal([limiter.revoke(given.override_id), limiter.revoke("none")], [false, false]);
    const again = limiter.grant(override);
    equal((await limiter.limit("vip", { rule: "r" })).success, true);
    equal(limiter.revoke(again.override_id), true);
    equal((await limiter.limit("vip", { rule: "r" })).success, false);
  },

  async "an override with a multiplier enlarges a quota, and leaves no debt"({ Ratelimit }) {
    const now = clock();
    const limiter = new Ratelimit({ policy: policy(rule()), now });
    const override = { admin_id: "ops", target_user_id: "vip", reason: "customer_support", duration_minutes: 5 };
    for (const rate_multiplier of [1, 0, -2, 1_001, Number.NaN, "2", 1e308]) {
      await throws(TypeError, () => limiter.grant({ ...override, rate_multiplier }));
    }
    await throws(TypeError, () => limiter.grant(override));
    limiter.grant({ ...override, rate_multiplier: 2.5 });
    const admitted = async (ask) => {
      let count = 0;
      for (let turn = 0; turn < 8; turn += 1) count += (await ask()).success ? 1 : 0;
      return count;
    };
    equal(await admitted(() => limiter.limit("vip")), 5, "a key, 2.5 times 2");
    equal(await admitted(() => limiter.limit("other")), 2, "another");
    now.nowMs += 300_000;
    equal(await admitted(() => limiter.limit({ path: "/", user: "vip" })), 2, "a request, when it has ended");
    limiter.grant({ ...override, rate_multiplier: 2 });
    now.nowMs += 60_000;
    equal(await admitted(() => limiter.limit({ path: "/", user: "vip" })), 4, "a request");
  },

  async "queue hands jobs over and answers 202; what no queue takes is refused and costs nothing"({ Ratelimit }, { queueTo, requestOf, carryOut }) {
    const now = clock();
    const strategy = { type: "queue", cluster: "unused", authority: "unused", max_wait_seconds: 120, max_queued: 2, max_body_bytes: 8, headers: ["x-kept", "host"], full_status: 503, max_attempts: 2 };
    const queueing = policy(rule({ rate: 1, strategy }));
    await throws(TypeError, () => new Ratelimit({ policy: queueing }), "queue");
    for (const bad of [undefined, {}, "url"]) await throws(TypeError, () => queueTo(bad));
    const jobs = [];
    let isDown = false;
    const errors = [];
    const queue = queueTo(async (job) => {
      if (isDown) throw new Error("down");
      jobs.push(job);
      return `/jobs/${job.ticket}`;
    });
    const limiter = new Ratelimit({ policy: queueing, queue, now, onError: (error) => errors.push(error.message) });
    const headers = { "content-type": "text/plain", "x-kept": "a", "x-other": "b", "idempotency-key": "mine" };
    const ask = (body) => limiter.limit(new Request("http://a/report?x=1", { method: "POST", headers, body }), { user: "u" });
    equal((await ask("first")).success, true);
    isDown = true;
    const failed = await ask("lost?");
    equal([failed.success, failed.status, failed.outcome, failed.queued, errors], [false, 503, "limited", undefined, ["down"]], "a queue that is down");
    isDown = false;
    const large = await ask("nine byte");
    equal([large.status, (await large.response().json()).status], [413, 413], "a body that is too large");
    const queued = await ask("b\u00e4d");
    equal([queued.success, queued.outcome, queued.status, queued.delayMs], [false, "queued", 202, 60_000], "what was refused has given its place back");
    const response = queued.response();
    equal([response.headers.get("location"), response.headers.get("retry-after")], [`/jobs/${queued.queued.ticket}`, "60"]);
    equal((await response.json()).ticket, queued.queued.ticket);
    equal([jobs.length, jobs[0].dueAt - now(), jobs[0].rule, jobs[0].headers.length], [1, 60_000, "r", 2], "the job");
    if (!/^[0-9a-f]{32}$/.test(jobs[0].ticket)) throw new Error(`${jobs[0].ticket} is no ticket`);
    const sent = requestOf(JSON.parse(JSON.stringify(jobs[0])), "http://inside:1", 2);
    equal([sent.url, sent.method, sent.headers.get("idempotency-key"), sent.headers.get("x-tidegate-attempt"), sent.headers.get("x-other")], ["http://inside:1/report?x=1", "POST", jobs[0].ticket, "2", null]);
    equal([sent.headers.get("x-kept"), sent.headers.get("host"), await sent.text()], ["a", null, "b\u00e4d"]);
    equal((await ask("second")).delayMs, 120_000);
    equal([(await ask("third")).outcome, limiter.metrics().outcomes.queued, limiter.metrics().waiting], ["limited", 2, 2], "two wait already");
    const parts = (more) => limiter.limit({ method: "POST", path: "/p", user: "v", headers: { "content-length": "3" }, ...more });
    equal((await parts({ body: "abc" })).outcome, "allowed");
    equal((await limiter.limit({ path: "/p", ip: "192.0.2.1" })).outcome, "allowed");
    equal((await limiter.limit({ path: "/p", ip: "192.0.2.1" })).outcome, "limited", "who is not verified is not queued");
    now.nowMs += 120_001;
    equal([(await parts({ body: "abc" })).outcome, (await parts({})).outcome, errors.length], ["allowed", "limited", 2], "a body that was not given");
    equal(limiter.metrics().waiting, 0);

    const told = [];
    const message = (job, attempts) => ({ body: job, attempts, ack: () => told.push("ack"), retry: ({ delaySeconds }) => told.push(delaySeconds) });
    const ended = [];
    const run = (at, attempts, send) => carryOut({ messages: [message(jobs[0], attempts)] }, send, { origin: "http://inside", now: () => at, onEnd: (job, end) => ended.push(end.status ?? end.message) });
    await run(jobs[0].dueAt - 5_000, 1, () => { throw new Error("too early"); });
    await run(jobs[0].dueAt, 1, () => new Response("", { status: 503 }));
    await run(jobs[0].dueAt, 2, async () => { throw new Error("no answer"); });
    await run(jobs[0].dueAt, 1, () => new Response("", { status: 404 }));
    equal([told, ended], [[5, 1, "ack", "ack"], ["no answer", 404]], "carrying out");
  },

  async "explain tells what is left and charges nothing"({ Ratelimit }) {
    const limiter = new Ratelimit({ policy: policy(rule()), now: clock() });
    const request = { path: "/", user: "k" };
    await limiter.limit(request);
    for (let turn = 0; turn < 3; turn += 1) {
      const [told] = await limiter.explain(request);
      equal([told.rule, told.remaining, told.limit, told.conforms], ["r", 1, 2, true]);
    }
  },

  async "throttle says how long to hold, or holds; who leaves gives the place back"({ Ratelimit }) {
    const strategy = { type: "throttle", max_delay_ms: 2_000, max_waiting_per_key: 2 };
    const limiter = Ratelimit.quota({ rate: 10, window: "1 s", burst: 1, strategy });
    equal((await limiter.limit("k")).delayMs, 0);
    const started = performance.now();
    const held = await limiter.limit("k", { wait: true });
    equal([held.success, held.outcome], [true, "delayed"]);
    if (performance.now() - started < 50) throw new Error("it was not held");
    const now = clock();
    const still = Ratelimit.quota({ rate: 10, window: "1 s", burst: 1, strategy, now });
    await still.limit("k");
    equal((await still.limit("k")).delayMs, 100);
    const leaving = new AbortController();
    const left = still.limit("k", { wait: true, signal: leaving.signal });
    equal((await still.limit("k")).success, false, "two wait already");
    leaving.abort(new RangeError("gone"));
    await throws(RangeError, () => left, "gone");
    equal((await still.limit("k")).delayMs, 200, "the place that was given back");
  },

  async "graceful degrades below its ceiling and refuses above"({ Ratelimit }) {
    const forward = { headers: { "x-lite": "1" }, path: "/lite" };
    const now = clock();
    const of = (strategy) => new Ratelimit({ policy: policy(rule({ rate: 1, scope: "global", strategy })), now });
    const limiter = of({ type: "graceful", forward, ceiling: 2 });
    equal((await limiter.limit({ path: "/" })).degraded, undefined);
    const second = await limiter.limit({ path: "/" });
    equal([second.success, second.degraded.path, second.degraded.headers["x-lite"]], [true, "/lite", "1"]);
    equal(second.headers["x-tidegate-degraded"], "r");
    equal((await limiter.limit({ path: "/" })).success, false);
    const answering = of({ type: "graceful", respond: { status: 200, body: "busy" } });
    await answering.limit({ path: "/" });
    const answered = await answering.limit({ path: "/" });
    equal([answered.success, answered.status, await answered.response().text()], [false, 200, "busy"]);
    const keyed = Ratelimit.quota({ rate: 1, window: 60, strategy: { type: "graceful", forward }, now });
    equal([(await keyed.limit("k")).outcome, (await keyed.limit("k")).outcome, (await keyed.limit("k")).outcome], ["allowed", "degraded", "limited"]);
  },

  async "a gRPC call is answered as one"({ Ratelimit }) {
    const limiter = new Ratelimit({ policy: policy(rule({ scope: "global", rate: 1 })), now: clock() });
    const call = { method: "POST", path: "/s/m", headers: { "content-type": "application/grpc" } };
    await limiter.limit(call);
    const response = (await limiter.limit(call)).response();
    equal([response.status, response.headers.get("grpc-status"), response.headers.get("grpc-retry-pushback-ms")], [200, "8", "60000"]);
  },

  async "a store that fails or hangs is decided over as the rule or the limiter says"({ Ratelimit }) {
    const stores = [{ acquire: () => Promise.reject(new Error("down")) }, { acquire: () => new Promise(() => {}) }, { acquire: async () => "nonsense" }];
    for (const store of stores) {
      const errors = [];
      const of = (onStoreError, on_store_error = "local") =>
        new Ratelimit({ policy: policy(rule({ rate: 1, on_store_error })), store, now: clock(), storeTimeoutMs: 20, onStoreError, onError: (error) => errors.push(error.message) });
      const outcomes = async (limiter) => [(await limiter.limit("k")).success, (await limiter.limit("k")).success];
      equal(await outcomes(of("local")), [true, false], "local");
      equal(await outcomes(of("allow")), [true, true], "allow");
      const denying = of("deny");
      equal(await outcomes(denying), [false, false], "deny");
      equal((await denying.limit("k")).reason, "store_failed");
      equal(await outcomes(of(undefined, "deny")), [false, false], "the rule's own deny");
      equal(await outcomes(of(undefined)), [true, false], "the rule's own local");
    }
    await throws(TypeError, () => Ratelimit.quota({ rate: 1, window: 1, onStoreError: "maybe" }));
  },

  async "memory is bounded, and a client at its limit stays there in a flood"({ Ratelimit, memory }) {
    const limiter = Ratelimit.quota({ rate: 5, window: 3_600, store: memory({ maxKeys: 1_024 }), now: clock() });
    for (let turn = 0; turn < 5; turn += 1) await limiter.limit("held");
    for (let key = 0; key < 20_000; key += 1) await limiter.limit(`flood-${key}`);
    equal((await limiter.limit("held")).success, false);
    const { cells, given_up_limiting } = limiter.metrics();
    if (cells > 2_048) throw new Error(`${cells} cells are kept`);
    equal(given_up_limiting, 0);
    await throws(TypeError, () => memory({ maxKeys: 1 }));
  },

  async "a broken engine is started anew, with the policy and the overrides, and says so once"({ Ratelimit }, internals) {
    const limiter = new Ratelimit({ policy: policy(rule({ rate: 1 })), now: clock() });
    const other = Ratelimit.quota({ rate: 1, window: 60, now: clock() });
    limiter.grant({ admin_id: "ops", target_user_id: "vip", reason: "testing", duration_minutes: 5, unlimited: true });
    await limiter.limit("k");
    const said = [];
    const { error } = console;
    console.error = (...words) => said.push(words.join(" "));
    try {
      for (let turn = 0; turn < 2; turn += 1) {
        new Uint8Array(internals.memoryBuffer()).fill(0xff);
        equal((await limiter.limit("k")).success, true, "a fresh counter");
        equal((await limiter.limit("k")).success, false);
        equal([(await other.limit("k")).success, (await other.limit("k")).success], [true, false], "the other limiter");
        equal((await limiter.limit("vip")).success && (await limiter.limit("vip")).success, true, "the override");
      }
    } finally {
      console.error = error;
    }
    equal(said.length, 1, "how often it was said");
  },
};

/** Runs every test; returns lines to print and the number that failed. */
export async function runSuite(tidegate, internals) {
  const lines = [];
  let failed = 0;
  for (const [name, test] of Object.entries({ ...tests, ...ready, ...counters, ...adapters })) {
    try {
      await test(tidegate, internals);
      lines.push(`ok   ${name}`);
    } catch (error) {
      failed += 1;
      lines.push(`FAIL ${name}\n     ${error.stack ?? error}`);
    }
  }
  return { lines, passed: lines.length - failed, failed };
}
