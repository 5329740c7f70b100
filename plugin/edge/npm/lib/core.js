// The engine's limiter of one policy, with the two buffers that the hot call uses; made anew when the engine was.
import { checkKey } from "./arguments.js";
import { generation, memoryBuffer, restart } from "./engine.js";
import { PolicyError } from "./policy-error.js";
import { Limiter } from "../wasm/tidegate.js";

/** Bits and numbers beside an outcome; see the engine's limiter.rs. */
export const HAS_TEXTS = 16;
export const COST_TOO_LARGE = 255;
export const ASK_STORE = 254;
export const NO_ADDRESS = 253;
export const RATE = 0;
export const REMAINING = 1;
export const RESET_US = 2;
export const RETRY_US = 3;
export const WAIT_US = 4;
export const RULE = 5;
export const ID = 6;

const OUT_LENGTH = 7;

export class Core {
  #policy;
  #maxKeys;
  #limiter;
  #generation = -1;
  #isOpen = false;
  #grants = new Map();
  #room = 0;
  #key;

  /** The numbers of the last call. */
  out;

  constructor(policy, maxKeys) {
    this.#policy = policy;
    this.#maxKeys = maxKeys;
    this.#make();
  }

  get generation() {
    return this.#generation;
  }

  /** Calls the engine with this policy's limiter. A panic starts the engine anew, and the call is made once more. */
  call(use) {
    this.#ready();
    const seen = this.#generation;
    try {
      return use(this.#limiter);
    } catch (error) {
      restart(seen, error);
    }
    this.#ready();
    return use(this.#limiter);
  }

  /** Asks one rule for a key and leaves the numbers in `out`. Without `mayWait`, nothing is charged for later. */
  check(rule, key, cost, now, mayWait = true) {
    if (this.#generation !== generation || !this.#isOpen || this.out.length === 0) this.#ready();
    const length = key.length;
    if (length <= this.#room && length > 0 && mayWait) {
      const bytes = this.#key;
      let index = 0;
      let all = 0;
      for (; index < length; index += 1) {
        const code = key.charCodeAt(index);
        all |= code;
        bytes[index] = code;
      }
      if (all < 128) {
        try {
          const outcome = this.#limiter.check_buffered(rule, length, cost, now);
          if (this.out.length === 0) this.#look();
          return outcome;
        } catch (error) {
          restart(this.#generation, error);
        }
      }
    }
    checkKey(key);
    return this.decide((limiter) => limiter.check_key(rule, key, cost, now, mayWait));
  }

  /** As `call`, for what leaves numbers in `out`. */
  decide(use) {
    const outcome = this.call(use);
    this.#look();
    return outcome;
  }

  /** Gives an exception; returns what is wrong with it, or nothing. */
  give({ id, nowUs, untilUs, targets, millionths }) {
    return this.call((limiter) => limiter.grant(id, nowUs, untilUs, targets, millionths));
  }

  /** Keeps an exception, so that it outlives a panic. */
  remember(grant) {
    this.#grants.set(grant.id, grant);
  }

  forget(id) {
    this.#grants.delete(id);
  }

  #ready() {
    if (this.#generation !== generation) this.#make();
    if (!this.#isOpen) this.#open();
    if (this.out.length === 0) this.#look();
  }

  #make() {
    this.#generation = generation;
    this.#isOpen = false;
    try {
      this.#limiter = new Limiter(this.#policy);
    } catch (error) {
      throw typeof error === "string" ? new PolicyError(error) : error;
    }
    this.#room = Limiter.key_room();
    this.#look();
  }

  /** The seed is made at the first request: Workers have no randomness while they load. */
  #open() {
    this.#limiter.open(crypto.getRandomValues(new Uint8Array(16)), this.#maxKeys);
    this.#isOpen = true;
    for (const grant of this.#grants.values()) this.give(grant);
  }

  /** Memory that has grown is another buffer, and views of the old one are empty. */
  #look() {
    const buffer = memoryBuffer();
    if (this.out?.buffer === buffer) return;
    this.#key = new Uint8Array(buffer, this.#limiter.key_address(), this.#room);
    this.out = new Float64Array(buffer, this.#limiter.out_address(), OUT_LENGTH);
  }

  /** What the policy says. */
  describe() {
    return JSON.parse(this.#limiter.describe());
  }
}
