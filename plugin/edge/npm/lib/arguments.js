// What callers may pass: everything is checked here, before anything is charged. Only an object's own members count, so
// that no prototype can change a limit.

const LONGEST_KEY = 65_536;
const LONGEST_FIELD = 1_048_576;
const UNITS = { ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400 };

/** A value for messages: short, and never an object's content. */
export function shown(value) {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value);
  if (value === null || typeof value !== "object") return String(value);
  return Array.isArray(value) ? "a list" : "an object";
}

/** The own member of that name, or undefined. */
export function own(object, name) {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** An options object with no members but those of `names`; nothing is an empty one. */
export function options(value, names, what) {
  if (value === undefined) return undefined;
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new TypeError(`${what} must be an object, not ${shown(value)}`);
  }
  for (const name of Object.keys(value)) {
    if (!names.has(name)) {
      throw new TypeError(`${what} has no member ${shown(name)}; allowed are ${[...names].join(", ")}`);
    }
  }
  return value;
}

/** A key that code gives: text that is not empty and can be written as UTF-8. */
export function checkKey(key) {
  if (typeof key !== "string") throw new TypeError(`the key must be a string, not ${shown(key)}`);
  if (key.length === 0) throw new TypeError("the key must not be empty");
  if (key.length > LONGEST_KEY) throw new TypeError(`the key must have at most ${LONGEST_KEY} characters`);
  if (!key.isWellFormed()) throw new TypeError("the key must be well-formed: it holds half of a surrogate pair");
  return key;
}

/** A cost: a whole number from 0 on. Nothing is -1, which the engine reads as the rule's own. */
export function checkCost(cost) {
  if (cost === undefined) return -1;
  if (!Number.isSafeInteger(cost) || cost < 0) {
    throw new TypeError(`cost must be a whole number from 0 on, not ${shown(cost)}`);
  }
  return cost;
}

/** A field of a request: text without NUL; nothing is nothing. */
export function checkField(value, what) {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") throw new TypeError(`${what} must be a string, not ${shown(value)}`);
  if (value.length > LONGEST_FIELD) throw new TypeError(`${what} is too long`);
  if (value.includes("\0")) throw new TypeError(`${what} must not hold a NUL`);
  return value;
}

/** A user or an address that code gives. */
export function checkGiven(value, what) {
  if (value === undefined || value === null) return "";
  const text = checkField(value, what);
  if (text === "") throw new TypeError(`${what} must not be empty; leave it out where there is none`);
  if (!text.isWellFormed()) throw new TypeError(`${what} must be well-formed: it holds half of a surrogate pair`);
  return text;
}

/** Seconds of a window: a number of them, or a text such as "10 s", "1m", "24 h". */
export function windowSeconds(window) {
  const match = typeof window === "string" ? /^\s*(\d+)\s*(ms|s|m|h|d)\s*$/.exec(window) : null;
  const seconds = match ? Number(match[1]) * UNITS[match[2]] : window;
  if (!Number.isSafeInteger(seconds) || seconds < 1) {
    throw new TypeError(`window must be whole seconds, such as 10, "10 s" or "1 m", not ${shown(window)}`);
  }
  return seconds;
}

/** A number of milliseconds between bounds. */
export function checkMillis(value, fallback, least, most, what) {
  if (value === undefined) return fallback;
  if (typeof value !== "number" || !(value >= least && value <= most)) {
    throw new TypeError(`${what} must be a number from ${least} to ${most}, not ${shown(value)}`);
  }
  return value;
}
