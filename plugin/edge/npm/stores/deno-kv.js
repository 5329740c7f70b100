// Counters in Deno KV: read, decide, write in one optimistic transaction, tried a bounded number of times. Requests of
// this process for the same cells take turns, so that only other processes can get in between.
import { keysOf, readAnswer, writeAnswer } from "../lib/lines.js";
import { refundCells, settleCells } from "../lib/settle.js";

const STATE_BYTES = 24;
/** What Deno KV reads at once. */
const READ_AT_ONCE = 10;
const TRIES = 64;

/** Counters in a database that `Deno.openKv()` opened. */
export function denoKv(database, settings) {
  if (typeof database?.atomic !== "function") throw new TypeError("denoKv() takes what Deno.openKv() gives");
  const tries = settings?.tries ?? TRIES;
  if (!Number.isSafeInteger(tries) || tries < 1 || tries > 1_000) {
    throw new TypeError(`tries must be a whole number from 1 to 1000, not ${tries}`);
  }
  return new DenoKvStore(database, tries);
}

class DenoKvStore {
  #database;
  #tries;
  #turns = new Map();

  constructor(database, tries) {
    this.#database = database;
    this.#tries = tries;
  }

  acquire(question) {
    const keys = keysOf(question);
    return this.#inTurn(keys, async () => {
      let text = "";
      for (let attempt = 0; attempt < this.#tries; attempt += 1) {
        const entries = await this.#entries(keys);
        const { text: settled, changed } = settleCells(question, states(entries));
        text = settled;
        if (await this.#commit(entries, changed)) return text;
        await pause(attempt);
      }
      const cells = readAnswer(text).cells.map((cell) => ({ ...cell, charged: false }));
      return writeAnswer("contended", cells);
    });
  }

  refund(question, answer, nowUs) {
    const keys = keysOf(question);
    return this.#inTurn(keys, async () => {
      for (let attempt = 0; attempt < this.#tries; attempt += 1) {
        const entries = await this.#entries(keys);
        if (await this.#commit(entries, refundCells(question, answer, states(entries), nowUs))) return;
        await pause(attempt);
      }
    });
  }

  /** Forgets the cells of a question. */
  clear(question) {
    const keys = keysOf(question);
    return this.#inTurn(keys, async () => {
      const transaction = this.#database.atomic();
      for (const key of keys) transaction.delete(["tidegate", key]);
      await transaction.commit();
    });
  }

  /** The states of cells, 24 bytes each; zeros where there is none. */
  async read(keys) {
    return states(await this.#entries(keys));
  }

  async #entries(keys) {
    const entries = [];
    for (let start = 0; start < keys.length; start += READ_AT_ONCE) {
      const some = keys.slice(start, start + READ_AT_ONCE).map((key) => ["tidegate", key]);
      entries.push(...(await this.#database.getMany(some)));
    }
    return entries;
  }

  /** Writes what changed, if nothing that was read has changed meanwhile. */
  async #commit(entries, changed) {
    if (changed.length === 0) return true;
    const transaction = this.#database.atomic();
    for (const { key, versionstamp } of entries) transaction.check({ key, versionstamp });
    for (const { index, state, keepMs } of changed) {
      // A second more than the cell counts: an entry that ends early would forget a charge.
      const kept = entries[index].value?.keepMs ?? 0;
      const expireIn = Math.max(keepMs ?? kept, 0) + 1_000;
      transaction.set(entries[index].key, { state, keepMs: keepMs ?? kept }, { expireIn });
    }
    return (await transaction.commit()).ok;
  }

  /** Runs `work` after what this process does for any of the same keys. */
  async #inTurn(keys, work) {
    const before = [...new Set(keys.map((key) => this.#turns.get(key)))];
    const turn = Promise.all(before).then(work);
    const ended = turn.catch(() => {});
    for (const key of keys) this.#turns.set(key, ended);
    try {
      return await turn;
    } finally {
      for (const key of keys) if (this.#turns.get(key) === ended) this.#turns.delete(key);
    }
  }
}

function states(entries) {
  const all = new Uint8Array(entries.length * STATE_BYTES);
  entries.forEach(({ value }, index) => all.set(value?.state ?? [], index * STATE_BYTES));
  return all;
}

/** A moment that grows with the attempts and differs between processes. */
function pause(attempt) {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(2 ** attempt, 50)));
}
