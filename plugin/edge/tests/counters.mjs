// Counters as code looks at them and resets them, stores that fail, addresses that are none, and what is said of those.
import { clock, equal, policy, rule, throws } from "./asserts.mjs";

/** What `run` says to the console as warnings. */
async function warned(run) {
  const { warn } = console;
  const said = [];
  console.warn = (...words) => said.push(words.join(" "));
  try {
    await run();
  } finally {
    console.warn = warn;
  }
  return said;
}

/** A store that answers as told, and counts. */
function playing(...answers) {
  const store = { asked: 0, cleared: [], acquire: async () => { store.asked += 1; return store.answer(); }, refund: async () => {}, clear: async (question) => store.cleared.push(question) };
  store.answer = () => {
    const next = answers.length > 1 ? answers.shift() : answers[0];
    if (next instanceof Error) throw next;
    return next;
  };
  return store;
}

export const tests = {
  async "a key's counter is looked at and reset"({ Ratelimit }) {
    const now = clock();
    const limiter = new Ratelimit({ policy: policy(rule(), rule({ name: "g", scope: "global", strategy: { type: "graceful", respond: {}, ceiling: 2 } })), now });
    await limiter.limit("k", { rule: "r" });
    for (let turn = 0; turn < 2; turn += 1) {
      const told = await limiter.explain("k", { rule: "r" });
      equal(told.map((one) => [one.rule, one.remaining, one.limit, one.resetAfterMs, one.conforms]), [["r", 1, 2, 30_000, true]], "a look charges nothing");
      equal((await limiter.limit("k", { rule: "r", cost: 0 })).remaining, 1, "cost 0 is a look too");
    }
    equal((await limiter.explain({ key: "k" }, { rule: "r", cost: 2 }))[0].conforms, false, "what a cost would get");
    equal((await limiter.explain("other", { rule: "r" }))[0].remaining, 2, "another key");
    await limiter.limit("k", { rule: "r" });
    equal([(await limiter.limit("k", { rule: "r" })).success, await limiter.reset("k", { rule: "r" })], [false, undefined]);
    equal((await limiter.limit("k", { rule: "r" })).remaining, 1, "after the reset");
    for (let turn = 0; turn < 4; turn += 1) await limiter.limit("any", { rule: "g" });
    equal((await limiter.limit("any", { rule: "g" })).outcome, "limited", "the ceiling");
    await limiter.reset("another", { rule: "g" });
    equal((await limiter.limit("any", { rule: "g" })).outcome, "allowed", "a global rule has one cell for all keys, and its ceiling goes too");
    await throws(TypeError, () => limiter.explain("k"), "with several rules, a key needs { rule }");
    await throws(TypeError, () => limiter.reset("k"), "a key needs { rule }");
    await throws(TypeError, () => limiter.reset("k", { rule: "r", cost: 1 }), "cost");
    await throws(TypeError, () => limiter.reset({ path: "/" }, { rule: "r" }), "takes a key");
    await throws(TypeError, () => limiter.explain("", { rule: "r" }), "empty");
  },

  async "a reset reaches the store, and what stands in for it"({ Ratelimit }) {
    const store = playing("refused\n60000000 0 0 60000000", new Error("down"));
    const rules = policy(rule({ rate: 4, on_store_error: "local", local_share: 0.5 }));
    const limiter = new Ratelimit({ policy: rules, store, now: clock(), onError: () => {} });
    equal([(await limiter.limit("k")).success, (await limiter.limit("k")).success, store.asked], [false, false, 1], "the second is remembered");
    await limiter.reset("k");
    const successes = [];
    for (let turn = 0; turn < 3; turn += 1) successes.push((await limiter.limit("k")).success);
    equal([successes, store.cleared.length], [[true, true, false], 1], "the store is asked again; it fails, and half the rate is local");
    await limiter.reset("k");
    equal((await limiter.limit("k")).success, true, "the local share was reset too");
    store.clear = async () => { throw new RangeError("down"); };
    await throws(RangeError, () => limiter.reset("k"), "down");
  },

  async "a refusal is remembered for a second at most"({ Ratelimit }) {
    const now = clock();
    const store = playing("refused\n60000000 0 0 60000000", "granted\n0 1 1 60000000");
    const limiter = Ratelimit.quota({ rate: 2, window: 60, store, now });
    equal((await limiter.limit("k")).retryAfterMs, 60_000);
    now.nowMs += 999;
    equal([(await limiter.limit("k")).retryAfterMs, store.asked], [59_001, 1], "without asking");
    now.nowMs += 1;
    equal([(await limiter.limit("k")).success, store.asked], [true, 2], "somebody has cleared the counter meanwhile");
  },

  async "a store that fails is counted, said in the decision and, once an outage, on the console"({ Ratelimit }) {
    const store = playing(new Error("down"));
    const limiter = Ratelimit.quota({ rate: 2, window: 60, store, shortCircuit: false, now: clock() });
    let decisions;
    const said = await warned(async () => {
      decisions = [await limiter.limit("k"), await limiter.limit("k"), await limiter.limit("k")];
    });
    equal(decisions.map((one) => [one.success, one.storeFailed]), [[true, true], [true, true], [false, true]]);
    equal([limiter.metrics().store_failures, limiter.metrics().queue_failures, said.length], [3, 0, 1]);
    if (!said[0].includes("the store failed") || !said[0].includes("down")) throw new Error(said[0]);
    store.answer = () => "granted\n0 1 1 60000000";
    equal([(await limiter.limit("k")).storeFailed, limiter.metrics().store_failures], [false, 3], "it is back");
    store.answer = () => "no answer";
    equal([(await limiter.limit("k")).storeFailed, limiter.metrics().store_failures], [true, 4], "nonsense is a failure");
    const errors = [];
    const told = Ratelimit.quota({ rate: 2, window: 60, store, onError: (error) => errors.push(error.message), now: clock() });
    equal((await warned(() => told.limit("k"))).length, 0, "who is told needs no warning");
    equal(errors, ["the store's answer is none"]);
    await throws(TypeError, () => Ratelimit.quota({ rate: 1, window: 1, onError: "log" }), "onError");
  },

  async "an address that is none is a TypeError, and a zone is no part of one"({ Ratelimit }) {
    const perIp = policy(rule({ scope: "per_ip" }));
    const store = playing("granted\n0 1 1 60000000");
    for (const limiter of [new Ratelimit({ policy: perIp, now: clock() }), new Ratelimit({ policy: perIp, store, now: clock() })]) {
      for (const ip of ["garbage", "010.0.0.1", "1.2.3.4, 5.6.7.8", "1.2.3.4%eth0", "unknown"]) {
        await throws(TypeError, () => limiter.limit({ path: "/", ip }), JSON.stringify(ip));
        await throws(TypeError, () => limiter.limit(new Request("http://a/"), { ip }), "ip must be an address");
        await throws(TypeError, () => limiter.explain({ path: "/", ip }), "ip must be an address");
      }
    }
    equal(store.asked, 0, "nothing is charged");
    const limiter = new Ratelimit({ policy: perIp, now: clock() });
    const remaining = async (ip) => (await limiter.limit({ path: "/", ip })).remaining;
    equal([await remaining("fe80::1%eth0"), await remaining("fe80::1%en1")], [1, 0], "one address");
    equal([await remaining("192.0.2.1:80"), await remaining("::ffff:192.0.2.1")], [1, 0], "as proxies print them");
  },

  async "a request without the address that a rule counts is said once"({ Ratelimit }) {
    const limiter = new Ratelimit({ policy: policy(rule({ name: "users" }), rule({ name: "pages", scope: "per_ip", endpoints: ["/pages"] })), now: clock() });
    equal(await warned(() => limiter.limit({ path: "/", user: "u" })), [], "no rule counts an address");
    equal(await warned(() => limiter.limit({ path: "/pages", user: "u", ip: "192.0.2.1" })), [], "there is one");
    const said = await warned(async () => {
      for (let turn = 0; turn < 3; turn += 1) await limiter.limit({ path: "/pages", user: "u" });
    });
    equal([said.length, said[0].includes('"pages"'), said[0].includes("{ ip }")], [1, true, true], said[0]);
    const asking = new Ratelimit({ policy: policy(rule({ scope: "per_ip" })), store: playing("granted\n0 1 1 60000000"), now: clock() });
    equal((await warned(async () => { await asking.limit({ path: "/" }); await asking.limit({ path: "/" }); })).length, 1, "with a store elsewhere");
  },
};
