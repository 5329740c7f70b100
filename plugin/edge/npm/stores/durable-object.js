// Counters in Durable Objects: one object an identity, or a fixed number of them. The objects' class is in
// `tidegate/durable-object`. A request whose identities live in several objects asks one after the other, the scarcest
// first, and gives back what the earlier ones charged where a later one refuses.
import { readAnswer, readQuestion, writeAnswer, writeQuestion } from "../lib/lines.js";

/** Counters in the Durable Objects of a namespace binding. With `shards`, identities share that many objects. */
export function durableObject(namespace, settings) {
  if (typeof namespace?.idFromName !== "function") {
    throw new TypeError("durableObject() takes the binding of a Durable Object namespace");
  }
  const shards = settings?.shards;
  if (shards !== undefined && (!Number.isSafeInteger(shards) || shards < 1 || shards > 4_096)) {
    throw new TypeError(`shards must be a whole number from 1 to 4096, not ${shards}`);
  }
  return new DurableObjectStore(namespace, shards);
}

class DurableObjectStore {
  #namespace;
  #shards;

  constructor(namespace, shards) {
    this.#namespace = namespace;
    this.#shards = shards;
  }

  async acquire(question) {
    const { nowUs, cells } = readQuestion(question);
    const parts = this.#split(cells);
    if (parts.length === 1) return this.#object(parts[0].name).acquire(question);
    const answers = new Array(cells.length);
    const granted = [];
    let refused = false;
    for (const { name, indices } of parts) {
      const object = this.#object(name);
      const asked = writeQuestion(nowUs, indices.map((index) => cells[index]));
      // After a refusal the others are only looked at: what they say is shown, nothing is charged.
      const answer = refused ? await object.look(asked) : await this.#take(object, asked, granted, nowUs);
      const told = readAnswer(answer);
      indices.forEach((index, at) => (answers[index] = told.cells[at]));
      if (!refused && told.outcome === "granted") granted.push({ object, asked, answer });
      refused ||= told.outcome !== "granted";
    }
    if (!refused) return writeAnswer("granted", answers);
    await giveBack(granted, nowUs);
    return writeAnswer("refused", answers.map((cell) => ({ ...cell, charged: false })));
  }

  async refund(question, answer, nowUs) {
    const { nowUs: askedUs, cells } = readQuestion(question);
    const { outcome, cells: told } = readAnswer(answer);
    await Promise.all(
      this.#split(cells).map(({ name, indices }) => {
        const asked = writeQuestion(askedUs, indices.map((index) => cells[index]));
        const part = writeAnswer(outcome, indices.map((index) => told[index]));
        return this.#object(name).refund(asked, part, nowUs);
      }),
    );
  }

  /** Forgets the cells of a question. */
  async clear(question) {
    const { cells } = readQuestion(question);
    await Promise.all(
      this.#split(cells).map(({ name, indices }) => this.#object(name).clear(indices.map((index) => cells[index].key))),
    );
  }

  /** The states of cells, 24 bytes each. */
  async read(keys) {
    const states = await Promise.all(keys.map((key) => this.#object(this.#nameOf(key)).read([key])));
    const all = new Uint8Array(keys.length * 24);
    states.forEach((state, index) => all.set(state, index * 24));
    return all;
  }

  /** What was charged before an object failed is given back; the failure is the store's. */
  async #take(object, asked, granted, nowUs) {
    try {
      return await object.acquire(asked);
    } catch (error) {
      await giveBack(granted, nowUs).catch(() => {});
      throw error;
    }
  }

  /** The cells by object: those of the smallest rate that must admit the request come first. */
  #split(cells) {
    const parts = new Map();
    cells.forEach(({ key, must, rate, windowUs }, index) => {
      const name = this.#nameOf(key);
      const part = parts.get(name) ?? { name, indices: [], scarcity: Infinity };
      part.indices.push(index);
      if (must) part.scarcity = Math.min(part.scarcity, rate / windowUs);
      parts.set(name, part);
    });
    return [...parts.values()].sort((one, other) => one.scarcity - other.scarcity);
  }

  /** `tg1:{<namespace>:<kind>:<digest>}:<rule>:<tag>`: the part in braces is the identity. */
  #nameOf(key) {
    const identity = key.slice(key.indexOf("{") + 1, key.indexOf("}"));
    if (this.#shards === undefined) return `tidegate:${identity}`;
    return `tidegate:shard:${Number.parseInt(identity.slice(-8), 16) % this.#shards}`;
  }

  #object(name) {
    return this.#namespace.get(this.#namespace.idFromName(name));
  }
}

function giveBack(granted, nowUs) {
  return Promise.all(granted.map(({ object, asked, answer }) => object.refund(asked, answer, nowUs)));
}
