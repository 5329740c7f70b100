// A store elsewhere as a limiter asks it: within its time, not again for what it just refused, and with its failures
// counted and told. What is asked, and what an answer means, is the engine's.
import { Recent } from "./recent.js";
import { within } from "./time.js";

const ANSWER = /^(granted|refused|contended)(\n|$)/;

export class Elsewhere {
  #store;
  #timeoutMs;
  #recent;
  #outages;

  /** `remembers`: what the store just refused is refused again without asking. */
  constructor(store, timeoutMs, remembers, outages) {
    this.#store = store;
    this.#timeoutMs = timeoutMs;
    this.#recent = remembers ? new Recent() : undefined;
    this.#outages = outages;
  }

  /** `{ answer, pending }`: the store's answer, "" where there is none, and what still runs then. */
  async acquire(question, now) {
    const known = this.#recent?.answer(question, now);
    if (known !== undefined) return { answer: known };
    try {
      const told = await within((signal) => this.#store.acquire(question, signal), this.#timeoutMs);
      const { answer, pending } = typeof told === "string" ? { answer: told } : told;
      if (!ANSWER.test(answer)) throw new Error("the store's answer is none");
      this.#recent?.keep(question, answer, now);
      return { answer, pending };
    } catch (error) {
      this.#outages.failed(error);
      return { answer: "" };
    }
  }

  /** Gives back what `answer` says was charged. What cannot be given back ages out. */
  async refund(question, answer, now) {
    this.#recent?.forget();
    try {
      await this.#store.refund(question, answer, now);
    } catch (error) {
      this.#outages.failed(error);
    }
  }

  /** What is left in each cell: `{ states }` or `{ answer }`, as the store has it. Charges nothing. */
  async look(keys, question) {
    if (this.#store.look === undefined) {
      return { states: await within(() => this.#store.read(keys), this.#timeoutMs), answer: "" };
    }
    return { states: new Uint8Array(), answer: await within((signal) => this.#store.look(question, signal), this.#timeoutMs) };
  }

  /** Forgets the cells of a question. */
  async clear(question) {
    await within(() => this.#store.clear(question), this.#timeoutMs);
    this.#recent?.forget();
  }
}
