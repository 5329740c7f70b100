// Counters in Redis: the script, the keys and the answers are the engine's, so that a Worker and an Envoy share one
// limit. Spoken to over HTTP as Upstash has it (Tidegate's gateway speaks the same), or through what the caller brings.
import { options, own } from "../lib/arguments.js";
import { generation } from "../lib/engine.js";
import { guarded } from "../lib/settle.js";
import { redis_clears, redis_refunds, redis_script, RedisTalk } from "../wasm/tidegate.js";

const MEMBERS = new Set(["url", "token"]);
/** No answer is longer: a thousand rules, five numbers a cell. */
const LONGEST_ANSWER = 262_144;
/** After so many failures in a row Redis is left alone for a while: no request waits for what is down. */
const FAILURES = 5;
const PAUSE_MS = 1_000;

/** Counters in Upstash's Redis, or in yours behind Tidegate's gateway. */
export function upstash(settings) {
  const given = options(settings, MEMBERS, "the settings of upstash()") ?? {};
  const url = own(given, "url");
  const token = own(given, "token");
  if (typeof url !== "string" || !/^https?:\/\/[^\s@]+$/.test(url)) {
    throw new TypeError("url must be an http or https address without a user in it");
  }
  // A token is a secret: it is never shown.
  if (token !== undefined && (typeof token !== "string" || !/^[!-~]+$/.test(token))) {
    throw new TypeError("token must be text without spaces");
  }
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  return new RedisStore(async (byText, keys, words, signal) => {
    const body = JSON.stringify([byText ? "EVAL" : "EVALSHA", redis_script(!byText), String(keys.length), ...keys, ...words]);
    // A redirect would take the token elsewhere.
    const response = await fetch(url, { method: "POST", headers, body, signal, redirect: "manual" });
    return [response.status, await textOf(response)];
  });
}

/** A store that runs the script through the caller's `{ eval(script, keys, words), evalsha? }`. */
export function bringing(client) {
  if (typeof client.sendCommand === "function") {
    throw new TypeError("a client of Redis needs an adapter { eval(script, keys, words) }: see the README");
  }
  return new RedisStore(async (byText, keys, words) => {
    try {
      const byName = !byText && typeof client.evalsha === "function";
      const found = await client[byName ? "evalsha" : "eval"](redis_script(byName), keys, words);
      return [200, JSON.stringify({ result: Array.isArray(found) ? found.map(Number) : null })];
    } catch (error) {
      const code = /\b(NOSCRIPT|CROSSSLOT)\b/.exec(error?.message);
      if (code === null) throw error;
      return [400, JSON.stringify({ error: code[0] })];
    }
  });
}

class RedisStore {
  #send;
  #isCluster = false;
  #failures = 0;
  #closedUntil = 0;

  constructor(send) {
    this.#send = send;
  }

  acquire(question, signal) {
    return this.#ask(question, false, signal);
  }

  /** What is left in each cell; charges nothing. */
  async look(question, signal) {
    return (await this.#ask(question, true, signal)).answer;
  }

  async refund(question, answer) {
    await this.#run(guarded(() => redis_refunds(question, answer, this.#isCluster)));
  }

  /** Forgets the cells of a question. */
  async clear(question) {
    for (const call of guarded(() => redis_clears(question, this.#isCluster)).split("\n")) {
      const [status] = await this.#call(call, true);
      if (status !== 200) throw new Error(`Redis did not forget the counters: status ${status}`);
    }
  }

  async #ask(question, onlyLooks, signal) {
    const now = performance.now();
    if (now < this.#closedUntil) throw new Error("Redis fails, and is left alone for a while");
    // One request tries again; the others are told at once until it has its answer.
    if (this.#failures >= FAILURES) this.#closedUntil = now + PAUSE_MS;
    // Whoever asked does not hear what comes after that.
    signal.addEventListener("abort", () => this.#failed());
    try {
      const told = await this.#talk(question, onlyLooks, signal);
      if (!signal.aborted) this.#failures = this.#closedUntil = 0;
      return told;
    } catch (error) {
      if (!signal.aborted) this.#failed();
      throw error;
    }
  }

  async #talk(question, onlyLooks, signal) {
    const isCluster = this.#isCluster;
    const talk = guarded(() => new RedisTalk(question, isCluster, onlyLooks));
    const seen = generation;
    const ask = async (call, byText) => {
      const answer = await this.#call(call, byText, signal);
      // An engine that was started anew meanwhile knows nothing of this talk.
      if (generation !== seen) throw new Error("the engine was started anew");
      return talk.answered(...answer);
    };
    try {
      for (let call = talk.next_call(); call !== ""; call = talk.next_call()) {
        let failed = await ask(call, false);
        if (failed === "NOSCRIPT") failed = await ask(call, true);
        if (failed === "CROSSSLOT" && !isCluster) {
          this.#isCluster = true;
          return await this.#talk(question, onlyLooks, signal);
        }
        if (failed !== "") throw new Error(`Redis did not decide: ${failed}`);
      }
      // What another identity refused is given back while the request goes on; what is lost on the way ages out.
      const pending = this.#run(talk.give_back()).catch(() => {});
      return { answer: talk.answer(), pending };
    } catch (error) {
      if (generation === seen) this.#run(talk.give_back()).catch(() => {});
      throw error;
    } finally {
      if (generation === seen) talk.free();
    }
  }

  #failed() {
    this.#failures += 1;
    if (this.#failures >= FAILURES) this.#closedUntil = performance.now() + PAUSE_MS;
  }

  #call(call, byText, signal) {
    const [count, ...words] = call.split("\0");
    return this.#send(byText, words.slice(0, count), words.slice(count), signal);
  }

  /** Makes calls whose answers tell nothing. */
  async #run(calls) {
    for (const call of calls.split("\n")) if (call !== "") await this.#call(call, true);
  }
}

/** The text of an answer, unless it is longer than any can be. */
async function textOf(response) {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let length = 0; reader; ) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > LONGEST_ANSWER) {
      await reader.cancel();
      throw new Error("Redis did not decide: the answer is too long");
    }
    text += decoder.decode(value, { stream: true });
  }
  return text;
}
