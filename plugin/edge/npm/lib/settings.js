// What a limiter is made with, checked and filled in. A wrong policy is the engine's to find.
import { checkMillis, options, own, shown, windowSeconds } from "./arguments.js";
import { MemoryStore, memory } from "../stores/memory.js";
import { bringing } from "../stores/redis.js";

const COMMON = ["store", "now", "onStoreError", "onError", "storeTimeoutMs", "shortCircuit"];
const MADE_WITH = new Set(["policy", "queue", ...COMMON]);
const QUOTA = new Set(["rate", "window", "burst", "algorithm", "strategy", "headers", ...COMMON]);
/** As the engine numbers them. */
const ON_STORE_ERROR = new Map([[undefined, 0], ["local", 1], ["allow", 2], ["deny", 3]]);

/** The settings of `new Ratelimit()`. */
export function limiterSettings(settings) {
  const given = options(settings, MADE_WITH, "the settings of a limiter");
  if (given === undefined) throw new TypeError("a limiter needs { policy }");
  const onStoreError = own(given, "onStoreError");
  if (!ON_STORE_ERROR.has(onStoreError)) {
    throw new TypeError(`onStoreError must be "local", "allow" or "deny", not ${shown(onStoreError)}`);
  }
  return {
    policy: policyText(own(given, "policy")),
    queue: own(given, "queue"),
    store: storeOf(own(given, "store")),
    clock: clock(own(given, "now")),
    onStoreError: ON_STORE_ERROR.get(onStoreError),
    onError: functionOf(own(given, "onError"), "onError"),
    storeTimeoutMs: checkMillis(own(given, "storeTimeoutMs"), 1_000, 1, 60_000, "storeTimeoutMs"),
    remembers: own(given, "shortCircuit") !== false,
  };
}

/** The settings of a limiter with one rule, from those of `Ratelimit.quota()`. */
export function quotaSettings(settings) {
  const given = options(settings, QUOTA, "the settings of a quota");
  if (given === undefined) throw new TypeError("a quota needs { rate, window }");
  const rule = { name: "quota", scope: "per_user", rate: own(given, "rate"), window_seconds: windowSeconds(own(given, "window")) };
  for (const name of ["burst", "algorithm", "strategy"]) {
    if (own(given, name) !== undefined) rule[name] = given[name];
  }
  const policy = { version: 1, rules: [rule] };
  if (own(given, "headers") !== undefined) policy.headers = given.headers;
  const rest = { policy };
  for (const name of COMMON) if (own(given, name) !== undefined) rest[name] = given[name];
  return rest;
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
  if (functionOf(now, "now") === undefined) return () => Date.now() * 1_000;
  return () => {
    const millis = now();
    if (!Number.isFinite(millis) || millis < 0) throw new TypeError(`now() must tell milliseconds, not ${shown(millis)}`);
    return Math.round(millis * 1_000);
  };
}

function functionOf(value, name) {
  if (value !== undefined && typeof value !== "function") throw new TypeError(`${name} must be a function, not ${shown(value)}`);
  return value;
}
