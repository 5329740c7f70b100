// The class of the objects that hold counters, for Workers to export: its storage is SQLite, or the older key-value
// kind. What it is asked, and what it answers, is between it and `durableObject()`.
import { DurableObject } from "cloudflare:workers";
import { keysOf } from "./lib/lines.js";
import { refundCells, settleCells } from "./lib/settle.js";
import "./workerd.js";

const STATE_BYTES = 24;
/** Cells are cleaned up this long after they are like new, so that one alarm serves many. */
const SLACK_MS = 60_000;

export class RatelimitObject extends DurableObject {
  #cells;

  constructor(context, env) {
    super(context, env);
    this.#cells = cellsIn(context.storage);
  }

  /** Decides over the cells of a question and charges them, in one step: nothing else runs in between. */
  async acquire(question) {
    const keys = keysOf(question);
    const stored = await this.#cells.read(keys);
    const { text, changed } = settleCells(question, stored);
    await this.#cells.write(changed.map(({ index, state, keepMs }) => [keys[index], state, Date.now() + keepMs]));
    if (changed.length > 0) await this.#wakeLater();
    return text;
  }

  /** What `acquire` would answer, without charging. */
  async look(question) {
    const keys = keysOf(question);
    return settleCells(question, await this.#cells.read(keys)).text;
  }

  /** Gives back what `acquire` charged. */
  async refund(question, answer, nowUs) {
    const keys = keysOf(question);
    const changed = refundCells(question, answer, await this.#cells.read(keys), nowUs);
    await this.#cells.write(changed.map(({ index, state }) => [keys[index], state, undefined]));
  }

  /** Forgets cells. */
  async clear(keys) {
    await this.#cells.remove(keys);
  }

  /** The states of cells, 24 bytes each; zeros where there is none. */
  async read(keys) {
    return this.#cells.read(keys);
  }

  /** Forgets cells that are like new. */
  async alarm() {
    const next = await this.#cells.forget(Date.now());
    if (next !== undefined) await this.ctx.storage.setAlarm(next + SLACK_MS);
  }

  async #wakeLater() {
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + SLACK_MS);
  }
}

/** A namespace of the older kind has no SQL, which it tells when it is used. */
function cellsIn(storage) {
  try {
    return new SqlCells(storage);
  } catch (error) {
    if (storage.sql !== undefined && !/SQL is not enabled|not backed by SQLite/.test(String(error))) throw error;
    return new KvCells(storage);
  }
}

/** Cells in a SQLite table. */
class SqlCells {
  #sql;

  constructor(storage) {
    this.#sql = storage.sql;
    this.#sql.exec("CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, state BLOB NOT NULL, until INTEGER NOT NULL)");
  }

  read(keys) {
    const states = new Uint8Array(keys.length * STATE_BYTES);
    keys.forEach((key, index) => {
      const [row] = this.#sql.exec("SELECT state FROM cells WHERE key = ?", key).toArray();
      if (row !== undefined) states.set(new Uint8Array(row.state), index * STATE_BYTES);
    });
    return states;
  }

  write(rows) {
    for (const [key, state, until] of rows) {
      if (until === undefined) this.#sql.exec("UPDATE cells SET state = ? WHERE key = ?", state, key);
      else this.#sql.exec("INSERT OR REPLACE INTO cells (key, state, until) VALUES (?, ?, ?)", key, state, until);
    }
  }

  remove(keys) {
    for (const key of keys) this.#sql.exec("DELETE FROM cells WHERE key = ?", key);
  }

  forget(now) {
    this.#sql.exec("DELETE FROM cells WHERE until <= ?", now);
    const { next } = this.#sql.exec("SELECT MIN(until) AS next FROM cells").one();
    return next ?? undefined;
  }
}

/** Cells as entries of the key-value storage: the state, then the time until which it is kept. */
class KvCells {
  #storage;

  constructor(storage) {
    this.#storage = storage;
  }

  async read(keys) {
    const states = new Uint8Array(keys.length * STATE_BYTES);
    const found = await this.#storage.get(keys);
    keys.forEach((key, index) => states.set(found.get(key)?.state ?? [], index * STATE_BYTES));
    return states;
  }

  async write(rows) {
    for (const [key, state, until] of rows) {
      const kept = until ?? (await this.#storage.get(key))?.until ?? Date.now();
      await this.#storage.put(key, { state, until: kept });
    }
  }

  async remove(keys) {
    await this.#storage.delete(keys);
  }

  async forget(now) {
    let next;
    for (const [key, { until }] of await this.#storage.list()) {
      if (until <= now) await this.#storage.delete(key);
      else next = Math.min(next ?? until, until);
    }
    return next;
  }
}
