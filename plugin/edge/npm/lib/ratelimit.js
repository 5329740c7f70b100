// The limiter that applications hold: it checks arguments, reads the clock, asks the engine, and where counters live
// elsewhere, the store. What a request gets is the engine's decision alone.
import { checkCost, checkKey, options as checked, own, shown } from "./arguments.js";
import { ASK_STORE, COST_TOO_LARGE, Core, HAS_TEXTS, ID, NO_ADDRESS, RATE, REMAINING, RESET_US, RETRY_US, RULE, WAIT_US } from "./core.js";
import { Decision, DEGRADED, LIMITED, QUEUED, UNLIMITED } from "./decision.js";
import { Elsewhere } from "./elsewhere.js";
import { Grants } from "./grants.js";
import { Outages } from "./outages.js";
import { Place } from "./place.js";
import { addressIn, requestText } from "./request.js";
import { limiterSettings, quotaSettings } from "./settings.js";
import { sleep } from "./time.js";
import { MemoryStore } from "../stores/memory.js";

const LIMIT = new Set(["cost", "rule", "ip", "user", "metadata", "wait", "signal"]);
const OF_KEY = new Set(["rule"]);
/** What was refused without a look at its quota (its store failed, or was contended for) is not asked for again sooner. */
const UNDECIDED_MS = 100;

export class Ratelimit {
  #core;
  #elsewhere;
  #clock;
  #rules;
  #about;
  #only;
  #onStoreError;
  #storeTimeoutMs;
  #storeOutages;
  #queueOutages;
  #grants;
  #queue;
  #knowsAddresses = false;

  constructor(settings) {
    const { policy, queue, store, clock, onStoreError, onError, storeTimeoutMs, remembers } = limiterSettings(settings);
    const isMemory = store instanceof MemoryStore;
    this.#queue = queue;
    this.#clock = clock;
    this.#onStoreError = onStoreError;
    this.#storeTimeoutMs = storeTimeoutMs;
    this.#storeOutages = new Outages("the store", onError);
    this.#queueOutages = new Outages("the queue", onError);
    this.#core = new Core(policy, isMemory ? store.maxKeys : 0);
    const about = this.#core.describe();
    const plainNames = about.reserved.map((name) => name.replaceAll("_", "-"));
    this.#about = { headers: about.headers, headerSet: new Set(about.headers), metadata: about.metadata.slice(1), reserved: new Set(plainNames) };
    const maker = (index) => (code, ...numbers) => this.#core.call((limiter) => limiter.key_texts(index, code, ...numbers));
    this.#rules = new Map(about.rules.map((rule, index) => [rule.name, { ...rule, index, maker: maker(index) }]));
    this.#only = about.rules.length === 1 ? this.#rules.get(about.rules[0].name) : undefined;
    this.#grants = new Grants(this.#core);
    this.warnings = about.warnings;
    this.changesPath = about.rules.find((rule) => rule.changes_path)?.name;
    const queues = about.rules.find((rule) => rule.queue !== null);
    if (queues && typeof queue?.enqueue !== "function") {
      throw new TypeError(`the rule "${queues.name}" queues requests: say where to, with queue: queueTo(...) of tidegate/queue`);
    }
    if (!isMemory) this.#elsewhere = new Elsewhere(store, storeTimeoutMs, remembers, this.#storeOutages);
  }

  /** A limiter with one rule that counts whatever key `limit()` is given. */
  static quota(settings) {
    return new Ratelimit(quotaSettings(settings));
  }

  /** Decides over a key, `{ key }`, a Request or `{ method, path, headers, ip, user }`, and charges it. */
  limit(subject, options) {
    try {
      // The way of most calls, one key for the only rule, makes one promise and one decision.
      if (options === undefined && typeof subject === "string" && this.#only !== undefined && this.#elsewhere === undefined) {
        const now = this.#clock();
        const outcome = this.#core.check(this.#only.index, subject, -1, now);
        return Promise.resolve(this.#told(outcome, now, this.#only));
      }
      const asked = asking(options, "the options of limit()");
      if (asked.given !== undefined && own(asked.given, "wait") === true) asked.until = Infinity;
      return Promise.resolve(this.#decide(subject, asked));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Asks until the answer is no refusal, or until `timeoutMs` would be over before it could be: then the last refusal. */
  async blockUntilReady(subject, timeoutMs, options) {
    if (typeof timeoutMs !== "number" || !(timeoutMs > 0)) {
      throw new TypeError(`the time to wait must be a number of milliseconds above 0, not ${shown(timeoutMs)}`);
    }
    const asked = asking(options, "the options of blockUntilReady()");
    asked.until = performance.now() + timeoutMs;
    for (;;) {
      const decision = await this.#decide(subject, asked);
      if (decision === undefined) {
        // Its place came too late and was given back: what is left is to be admitted at once, or refused.
        asked.mayWait = false;
        continue;
      }
      if (decision.outcome !== "limited") return decision;
      const wait = Math.max(decision.reason === "over_quota" ? 1 : UNDECIDED_MS, Math.ceil(decision.retryAfterMs));
      if (!(performance.now() + wait <= asked.until)) return decision;
      await sleep(wait, asked.given && own(asked.given, "signal"));
    }
  }

  /** Which rules a request meets, or what one rule says of a key: under which keys, and what is left. Charges nothing. */
  async explain(subject, options) {
    const { given, cost } = asking(options, "the options of explain()");
    const key = keyOf(subject);
    const rule = key === undefined ? undefined : this.#ruleFor(given, cost);
    const text = key ?? this.#requestText(subject, given);
    const now = this.#clock();
    const explain = (states, answer) => this.#core.call((limiter) => limiter.explain(rule?.index ?? -1, text, cost, states, answer, now));
    const told = explain(new Uint8Array(), "");
    if (told === "") refuseAddress(text);
    const rules = JSON.parse(told);
    if (this.#elsewhere === undefined || rules.length === 0) return rules;
    const question = this.#core.call((limiter) => limiter.explain_question(rule?.index ?? -1, text, cost, now));
    const { states, answer } = await this.#elsewhere.look(rules.map((one) => one.key), question);
    return JSON.parse(explain(states, answer));
  }

  /** Forgets what a rule has counted for a key, here and in the store. */
  async reset(subject, options) {
    const key = keyOf(subject);
    if (key === undefined) throw new TypeError(`reset() takes a key or { key }, not ${shown(subject)}`);
    const { index } = this.#ruleFor(checked(options, OF_KEY, "the options of reset()"), -1);
    const now = this.#clock();
    this.#core.call((limiter) => limiter.reset_key(index, key, now));
    if (this.#elsewhere === undefined) return;
    const question = this.#core.call((limiter) => limiter.explain_question(index, key, -1, now));
    if (question !== "") await this.#elsewhere.clear(question);
  }

  /** What was decided so far, and how full the memory is. */
  metrics() {
    const counts = JSON.parse(this.#core.call((limiter) => limiter.metrics(this.#clock())));
    return { ...counts, store_failures: this.#storeOutages.failures, queue_failures: this.#queueOutages.failures };
  }

  /** Gives an exception for a while; in this instance's memory only. */
  grant(override) {
    return this.#grants.give(override, this.#clock());
  }

  /** Ends an exception; false where there is none of that id. */
  revoke(id) {
    return this.#grants.revoke(id, this.#clock());
  }

  /** Whether only Tidegate may set the request header of this name: a client's copy is to be taken out. */
  reserves(name) {
    const plain = name.toLowerCase().replaceAll("_", "-");
    return plain.startsWith("x-tidegate-") || this.#about.reserved.has(plain);
  }

  #ruleFor(given, cost) {
    const name = given === undefined ? undefined : own(given, "rule");
    const rule = name === undefined ? this.#only : typeof name === "string" ? this.#rules.get(name) : undefined;
    if (rule === undefined) {
      const names = [...this.#rules.keys()].map((known) => `"${known}"`).join(", ");
      const found = name === undefined ? "with several rules, a key needs { rule }" : `there is no rule ${shown(name)}`;
      throw new TypeError(`${found}; the policy has ${names}`);
    }
    if (cost > rule.largest_cost) refuseCost(rule);
    return rule;
  }

  #requestText(subject, given) {
    if (given !== undefined && own(given, "rule") !== undefined) {
      throw new TypeError("rule goes with a key; which rules a request meets is the policy's to say");
    }
    return requestText(subject, given, this.#about);
  }

  /** The decision; nothing where the request would have to wait longer than until `asked.until`. */
  #decide(subject, asked) {
    const key = keyOf(subject);
    const { given, cost, mayWait } = asked;
    if (key === undefined) {
      const text = this.#requestText(subject, given);
      const now = this.#clock();
      const told = { ...asked, subject, text };
      if (this.#elsewhere !== undefined) return this.#ask((limiter) => limiter.begin_request(text, cost, now, mayWait), now, told);
      return this.#carried(this.#told(this.#core.decide((limiter) => limiter.check_request(text, cost, now, mayWait)), now, undefined, text), told);
    }
    const rule = this.#ruleFor(given, cost);
    const now = this.#clock();
    if (this.#elsewhere !== undefined) return this.#ask((limiter) => limiter.begin_key(rule.index, key, cost, now, mayWait), now, asked);
    return this.#carried(this.#told(this.#core.check(rule.index, key, cost, now, mayWait), now, rule), asked);
  }

  /** Asks the store for a request that `begin` starts, and goes on with its answer. */
  async #ask(begin, now, asked) {
    const outcome = this.#core.decide(begin);
    if (outcome !== ASK_STORE) return this.#carried(this.#told(outcome, now, undefined, asked.text), asked);
    this.#warnOfAddress(asked.text);
    const id = this.#core.out[ID];
    const generation = this.#core.generation;
    const question = this.#core.call((limiter) => limiter.texts());
    const { answer, pending } = await this.#elsewhere.acquire(question, now);
    const later = this.#clock();
    if (this.#core.generation !== generation) {
      // The engine was started anew in between and has forgotten the request: it is asked for once more.
      return this.#ask(begin, later, asked);
    }
    const decision = this.#told(this.#core.decide((limiter) => limiter.resume(id, answer, this.#onStoreError)), later);
    if (pending !== undefined) decision.pending = pending;
    if (answer === "") decision.storeFailed = true;
    return this.#carried(decision, asked, answer === "" ? undefined : () => this.#elsewhere.refund(question, answer, this.#clock()));
  }

  /** The decision that the engine left. `text` is the request's, where there is one. */
  #told(code, now, rule, text) {
    const out = this.#core.out;
    if (code === COST_TOO_LARGE) refuseCost([...this.#rules.values()][out[RULE]]);
    if (code === NO_ADDRESS) refuseAddress(text);
    const outcome = code & 7;
    if (outcome === UNLIMITED) return new Decision(UNLIMITED, undefined, Infinity, Infinity, now / 1_000, 0, 0, 0);
    const texts = code & HAS_TEXTS ? this.#core.call((limiter) => limiter.texts()) : rule;
    const resetUs = out[RESET_US];
    const retryUs = out[RETRY_US];
    const reset = Math.ceil((now + (outcome === LIMITED ? retryUs : resetUs)) / 1_000);
    if (texts === rule) return new Decision(code, rule.name, out[RATE], out[REMAINING], reset, out[WAIT_US], resetUs, retryUs, rule);
    this.#warnOfAddress(text);
    // No rule stands for a decision where none of those that apply counts: all are in shadow, or lifted.
    if (out[RULE] < 0) return new Decision(code, undefined, Infinity, Infinity, now / 1_000, 0, 0, 0, texts);
    const name = texts.slice(0, texts.indexOf("\0"));
    const decision = new Decision(code, name, out[RATE], out[REMAINING], reset, out[WAIT_US], resetUs, retryUs, texts);
    if (outcome === DEGRADED) decision.degraded = this.#reduced(name);
    return decision;
  }

  /** Says once that a rule counts addresses and a request came without one: all such requests count as one. */
  #warnOfAddress(text) {
    if (this.#knowsAddresses || text === undefined) return;
    const index = this.#core.call((limiter) => limiter.unaddressed());
    if (index < 0) return;
    this.#knowsAddresses = true;
    const { name } = [...this.#rules.values()][index];
    console.warn(`tidegate: the rule "${name}" counts addresses, and a request came without one: all such requests count as one client. Give { ip }.`);
  }

  /** What a decision takes beyond being told: a wait until `asked.until` at most, or a place in a queue. */
  #carried(decision, asked, refund) {
    if (decision.outcome === "queued") return this.#queued(decision, asked.subject, refund);
    if (decision.outcome === "delayed" && asked.until !== undefined) {
      return this.#waited(decision, asked, new Place(this.#core, this.#clock, refund));
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
  async #queued(decision, subject, refund) {
    const place = new Place(this.#core, this.#clock, refund);
    const rule = this.#rules.get(decision.rule);
    const dueAt = Math.ceil(this.#clock() / 1_000) + decision.delayMs;
    const { job, texts, error } = await this.#queue.enqueue(subject, rule, decision, dueAt, this.#storeTimeoutMs);
    const told = decision.answering(job === undefined ? LIMITED : QUEUED, texts);
    told.queued = job;
    told.pending = decision.pending;
    if (job !== undefined) {
      place.queued();
      return told;
    }
    if (error !== undefined) this.#queueOutages.failed(error);
    told.pending = place.notQueued();
    return told;
  }

  /** Sleeps until the request's moment; where that is too late, or the signal aborts, gives its place back. */
  async #waited(decision, { given, until }, place) {
    if (performance.now() + decision.delayMs > until) {
      await place.giveBack();
      return undefined;
    }
    try {
      await sleep(decision.delayMs, given && own(given, "signal"));
    } catch (error) {
      await place.giveBack();
      throw error;
    }
    place.leave();
    return decision;
  }
}

/** What is asked, checked: the caller's options and cost; and that nothing waits here until somebody says how long. */
function asking(options, what) {
  const given = checked(options, LIMIT, what);
  return { given, cost: given === undefined ? -1 : checkCost(own(given, "cost")), until: undefined, mayWait: true };
}

/** The key in a subject; undefined where it is a request. */
function keyOf(subject) {
  if (typeof subject === "string") return checkKey(subject);
  if (subject !== null && typeof subject === "object" && Object.hasOwn(subject, "key")) return checkKey(subject.key);
  return undefined;
}

function refuseCost(rule) {
  throw new TypeError(`the rule "${rule.name}" never admits that cost: at most ${rule.largest_cost} at once`);
}

function refuseAddress(text) {
  throw new TypeError(`ip must be an address such as 192.0.2.1 or 2001:db8::1, not ${shown(addressIn(text))}`);
}
