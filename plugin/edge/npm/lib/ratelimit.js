// The limiter that applications hold: it checks arguments, reads the clock, asks the engine, and where counters live
// elsewhere, the store. What a request gets is the engine's decision alone.
import { checkCost, checkKey, checkMillis, options as checked, own, shown, windowSeconds } from "./arguments.js";
import { ASK_STORE, COST_TOO_LARGE, Core, HAS_TEXTS, ID, RATE, REMAINING, RESET_US, RETRY_US, RULE, WAIT_US } from "./core.js";
import { Decision, DEGRADED, DELAYED, LIMITED, QUEUED, UNLIMITED } from "./decision.js";
import { Grants } from "./grants.js";
import { Recent } from "./recent.js";
import { requestText } from "./request.js";
import { sleep, within } from "./time.js";
import { MemoryStore, memory } from "../stores/memory.js";
import { bringing } from "../stores/redis.js";

const COMMON = ["store", "now", "onStoreError", "onError", "storeTimeoutMs", "shortCircuit"];
const MADE_WITH = new Set(["policy", "queue", ...COMMON]);
const QUOTA = new Set(["rate", "window", "burst", "algorithm", "strategy", "headers", ...COMMON]);
const LIMIT = new Set(["cost", "rule", "ip", "user", "metadata", "wait", "signal"]);
const ON_STORE_ERROR = new Map([[undefined, 0], ["local", 1], ["allow", 2], ["deny", 3]]);

export class Ratelimit {
  #core;
  #store;
  #clock;
  #rules;
  #about;
  #only;
  #onStoreError;
  #onError;
  #storeTimeoutMs;
  #recent;
  #grants;
  #queue;

  constructor(settings) {
    const given = checked(settings, MADE_WITH, "the settings of a limiter");
    if (given === undefined) throw new TypeError("a limiter needs { policy }");
    this.#store = storeOf(own(given, "store"));
    this.#queue = own(given, "queue");
    const isMemory = this.#store instanceof MemoryStore;
    this.#clock = clock(own(given, "now"));
    const onStoreError = own(given, "onStoreError");
    if (!ON_STORE_ERROR.has(onStoreError)) {
      throw new TypeError(`onStoreError must be "local", "allow" or "deny", not ${shown(onStoreError)}`);
    }
    this.#onStoreError = ON_STORE_ERROR.get(onStoreError);
    this.#onError = own(given, "onError");
    this.#storeTimeoutMs = checkMillis(own(given, "storeTimeoutMs"), 1_000, 1, 60_000, "storeTimeoutMs");
    this.#recent = own(given, "shortCircuit") === false ? undefined : new Recent();
    this.#core = new Core(policyText(own(given, "policy")), isMemory ? this.#store.maxKeys : 0);
    const about = this.#core.describe();
    this.#about = { headers: about.headers, headerSet: new Set(about.headers), metadata: about.metadata.slice(1) };
    const maker = (index) => (code, ...numbers) => this.#core.call((limiter) => limiter.key_texts(index, code, ...numbers));
    this.#rules = new Map(about.rules.map((rule, index) => [rule.name, { ...rule, index, maker: maker(index) }]));
    this.#only = about.rules.length === 1 ? this.#rules.get(about.rules[0].name) : undefined;
    this.#grants = new Grants(this.#core);
    this.warnings = about.warnings;
    const queues = about.rules.find((rule) => rule.queue !== null);
    if (queues && typeof this.#queue?.enqueue !== "function") {
      throw new TypeError(`the rule "${queues.name}" queues requests: say where to, with queue: queueTo(...) of tidegate/queue`);
    }
    if (isMemory) this.#store = undefined;
  }

  /** A limiter with one rule that counts whatever key `limit()` is given. */
  static quota(settings) {
    const given = checked(settings, QUOTA, "the settings of a quota");
    if (given === undefined) throw new TypeError("a quota needs { rate, window }");
    const rule = { name: "quota", scope: "per_user", rate: own(given, "rate"), window_seconds: windowSeconds(own(given, "window")) };
    for (const name of ["burst", "algorithm", "strategy"]) {
      if (own(given, name) !== undefined) rule[name] = given[name];
    }
    const policy = { version: 1, rules: [rule] };
    if (own(given, "headers") !== undefined) policy.headers = given.headers;
    const rest = { policy };
    for (const name of COMMON) if (own(given, name) !== undefined) rest[name] = given[name];
    return new Ratelimit(rest);
  }

  /** Decides over a key, `{ key }`, a Request or `{ method, path, headers, ip, user }`, and charges it. */
  limit(subject, options) {
    try {
      // The way of most calls, one key for the only rule, makes one promise and one decision.
      if (options === undefined && typeof subject === "string" && this.#only !== undefined && this.#store === undefined) {
        const now = this.#clock();
        const outcome = this.#core.check(this.#only.index, subject, -1, now);
        return Promise.resolve(this.#told(outcome, now, this.#only));
      }
      return Promise.resolve(this.#limit(subject, options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #limit(subject, options) {
    const given = options === undefined ? undefined : checked(options, LIMIT, "the options of limit()");
    const cost = given === undefined ? -1 : checkCost(own(given, "cost"));
    if (typeof subject === "string") return this.#limitKey(subject, cost, given);
    if (subject !== null && typeof subject === "object" && Object.hasOwn(subject, "key")) {
      return this.#limitKey(checkKey(subject.key), cost, given);
    }
    const text = requestText(subject, given, this.#about);
    if (given !== undefined && own(given, "rule") !== undefined) {
      throw new TypeError("rule goes with a key; which rules a request meets is the policy's to say");
    }
    const now = this.#clock();
    if (this.#store !== undefined) return this.#ask((limiter) => limiter.begin_request(text, cost, now), now, given, subject);
    const outcome = this.#core.decide((limiter) => limiter.check_request(text, cost, now));
    return this.#carried(this.#told(outcome, now), given, subject);
  }

  #limitKey(key, cost, given) {
    const rule = this.#ruleFor(given);
    if (cost > rule.largest_cost) this.#refuseCost(rule);
    const now = this.#clock();
    if (this.#store !== undefined) {
      checkKey(key);
      return this.#ask((limiter) => limiter.begin_key(rule.index, key, cost, now), now, given);
    }
    const outcome = this.#core.check(rule.index, key, cost, now);
    return this.#carried(this.#told(outcome, now, rule), given);
  }

  /** Asks until the answer is yes, or until `timeoutMs` would be over before it could be: then the last answer. */
  async blockUntilReady(subject, timeoutMs, options) {
    if (typeof timeoutMs !== "number" || !(timeoutMs > 0)) {
      throw new TypeError(`the time to wait must be a number of milliseconds above 0, not ${shown(timeoutMs)}`);
    }
    const signal = options === undefined || options === null ? undefined : own(options, "signal");
    const until = performance.now() + timeoutMs;
    for (;;) {
      const decision = await this.limit(subject, options);
      if (decision.success) return decision;
      const wait = Math.max(1, Math.ceil(decision.retryAfterMs));
      if (!(performance.now() + wait <= until)) return decision;
      await sleep(wait, signal);
    }
  }

  /** Which rules a request meets, under which keys, and what is left. Charges nothing. */
  async explain(subject, options) {
    const given = checked(options, LIMIT, "the options of explain()");
    const cost = given === undefined ? -1 : checkCost(own(given, "cost"));
    const text = requestText(subject, given, this.#about);
    const now = this.#clock();
    const explain = (states, answer) =>
      JSON.parse(this.#core.call((limiter) => limiter.explain(text, cost, states, answer, now)));
    const nothing = new Uint8Array();
    const rules = explain(nothing, "");
    if (this.#store === undefined || rules.length === 0) return rules;
    if (this.#store.look === undefined) {
      return explain(await within(() => this.#store.read(rules.map((rule) => rule.key)), this.#storeTimeoutMs), "");
    }
    const question = this.#core.call((limiter) => limiter.explain_question(text, cost, now));
    return explain(nothing, await within((signal) => this.#store.look(question, signal), this.#storeTimeoutMs));
  }

  /** What was decided so far, and how full the memory is. */
  metrics() {
    return JSON.parse(this.#core.call((limiter) => limiter.metrics(this.#clock())));
  }

  /** Gives an exception for a while; in this instance's memory only. */
  grant(override) {
    return this.#grants.give(override, this.#clock());
  }

  /** Ends an exception; false where there is none of that id. */
  revoke(id) {
    return this.#grants.revoke(id, this.#clock());
  }

  #ruleFor(given) {
    const name = given === undefined ? undefined : own(given, "rule");
    if (name === undefined && this.#only !== undefined) return this.#only;
    const rule = typeof name === "string" ? this.#rules.get(name) : undefined;
    if (rule !== undefined) return rule;
    const names = [...this.#rules.keys()].map((known) => `"${known}"`).join(", ");
    const found = name === undefined ? "with several rules, a key needs { rule }" : `there is no rule ${shown(name)}`;
    throw new TypeError(`${found}; the policy has ${names}`);
  }

  #refuseCost(rule) {
    throw new TypeError(`the rule "${rule.name}" never admits that cost: at most ${rule.largest_cost} at once`);
  }

  /** Asks the store for a request that `begin` starts, and goes on with its answer. */
  async #ask(begin, now, given, subject) {
    const outcome = this.#core.decide(begin);
    if (outcome !== ASK_STORE) return this.#carried(this.#told(outcome, now), given, subject);
    const id = this.#core.out[ID];
    const generation = this.#core.generation;
    const question = this.#core.call((limiter) => limiter.texts());
    let answer = this.#recent?.answer(question, now) ?? "";
    let pending;
    if (answer === "") {
      try {
        const told = await within((signal) => this.#store.acquire(question, signal), this.#storeTimeoutMs);
        answer = told.answer ?? told;
        pending = told.pending;
        this.#recent?.keep(question, answer, now);
      } catch (error) {
        answer = "";
        this.#onError?.(error);
      }
    }
    const later = this.#clock();
    if (this.#core.generation !== generation) {
      // The engine was started anew in between and has forgotten the request: it is asked for once more.
      return this.#ask(begin, later, given, subject);
    }
    const decided = this.#core.decide((limiter) => limiter.resume(id, answer, this.#onStoreError));
    const giveBack = answer === "" ? undefined : () => this.#store.refund(question, answer, this.#clock());
    const decision = this.#told(decided, later);
    if (pending !== undefined) decision.pending = pending;
    return this.#carried(decision, given, subject, giveBack);
  }

  /** The decision that the engine left. */
  #told(code, now, rule) {
    const out = this.#core.out;
    if (code === COST_TOO_LARGE) this.#refuseCost([...this.#rules.values()][out[RULE]]);
    const outcome = code & 7;
    if (outcome === UNLIMITED) return new Decision(UNLIMITED, undefined, Infinity, Infinity, now / 1_000, 0, 0, 0);
    const texts = code & HAS_TEXTS ? this.#core.call((limiter) => limiter.texts()) : rule;
    const resetUs = out[RESET_US];
    const retryUs = out[RETRY_US];
    const reset = Math.ceil((now + (outcome === LIMITED ? retryUs : resetUs)) / 1_000);
    if (texts === rule) return new Decision(code, rule.name, out[RATE], out[REMAINING], reset, out[WAIT_US], resetUs, retryUs, rule);
    // No rule stands for a decision where none of those that apply counts: all are in shadow, or lifted.
    if (out[RULE] < 0) return new Decision(code, undefined, Infinity, Infinity, now / 1_000, 0, 0, 0, texts);
    const name = texts.slice(0, texts.indexOf("\0"));
    const decision = new Decision(code, name, out[RATE], out[REMAINING], reset, out[WAIT_US], resetUs, retryUs, texts);
    if (outcome === DEGRADED) decision.degraded = this.#reduced(name);
    return decision;
  }

  /** What a decision takes beyond being told: a wait, where the caller wants that, or a place in a queue. */
  #carried(decision, given, subject, giveBack) {
    if (decision.outcome === "queued") return this.#queued(decision, subject, giveBack);
    if (decision.outcome === "delayed" && given !== undefined && own(given, "wait") === true) {
      return this.#waited(decision, own(given, "signal"), giveBack);
    }
    return decision;
  }

  #reduced(rule) {
    const [path, ...fields] = this.#core.call((limiter) => limiter.reduced()).split("\0");
    const headers = [];
    for (let index = 0; index + 1 < fields.length; index += 2) headers.push([fields[index], fields[index + 1]]);
    return { rule, path: path || undefined, headers: Object.fromEntries([...headers, ["x-tidegate-degraded", rule]]) };
  }

  /** Hands the request to the queue; one that it does not take gives its place back and is refused. */
  async #queued(decision, subject, giveBack) {
    const core = this.#core;
    const generation = core.generation;
    const id = core.call((limiter) => limiter.hold());
    const rule = this.#rules.get(decision.rule);
    const dueAt = Math.ceil(this.#clock() / 1_000) + decision.delayMs;
    const { job, texts, error } = await this.#queue.enqueue(subject, rule, decision, dueAt, this.#storeTimeoutMs);
    const told = decision.answering(job === undefined ? LIMITED : QUEUED, texts);
    told.pending = decision.pending;
    if (core.generation === generation) {
      core.call((limiter) => (job ? limiter.queued(id) : limiter.not_queued(id, giveBack === undefined, this.#clock())));
    }
    told.queued = job;
    if (job !== undefined) return told;
    if (error !== undefined) this.#onError?.(error);
    if (giveBack !== undefined) told.pending = giveBack().catch(() => {});
    return told;
  }

  /** Sleeps until the request's moment; gives its place back where the signal aborts before. */
  async #waited(decision, signal, giveBack) {
    const core = this.#core;
    const generation = core.generation;
    const id = core.call((limiter) => limiter.hold());
    const release = (giveUp) => {
      if (core.generation !== generation) return;
      core.call((limiter) => limiter.release(id, giveUp && giveBack === undefined, this.#clock()));
    };
    try {
      await sleep(decision.delayMs, signal);
    } catch (error) {
      release(true);
      await giveBack?.();
      throw error;
    }
    release(false);
    return decision;
  }
}

/** A store with `acquire`, from what the caller gave. */
function storeOf(store) {
  if (store === undefined) return memory();
  if (store instanceof MemoryStore || typeof store?.acquire === "function") return store;
  if (typeof store?.eval === "function") return bringing(store);
  throw new TypeError(`store must be memory(), upstash(...), durableObject(...), denoKv(...) or { eval }, not ${shown(store)}`);
}

function policyText(policy) {
  if (typeof policy === "string") return policy;
  if (policy !== null && typeof policy === "object") return JSON.stringify(policy);
  throw new TypeError(`policy must be an object or JSON text, not ${shown(policy)}`);
}

/** The clock in whole microseconds. A caller's clock tells milliseconds, with fractions where it has them. */
function clock(now) {
  if (now === undefined) return () => Date.now() * 1_000;
  if (typeof now !== "function") throw new TypeError(`now must be a function, not ${shown(now)}`);
  return () => {
    const millis = now();
    if (!Number.isFinite(millis) || millis < 0) throw new TypeError(`now() must tell milliseconds, not ${shown(millis)}`);
    return Math.round(millis * 1_000);
  };
}
