// Failures of what is elsewhere, a store or a queue: counted, and told to whoever asked for that; to the console where
// nobody did, so that no outage is silent.

/** An outage ends with so long without a failure: one that comes and goes is told once a minute at most. */
const QUIET_MS = 60_000;

export class Outages {
  #what;
  #onError;
  #lastAt = -Infinity;

  /** How often it failed. */
  failures = 0;

  /** `what` says in a few words what is elsewhere. */
  constructor(what, onError) {
    this.#what = what;
    this.#onError = onError;
  }

  failed(error) {
    this.failures += 1;
    const now = performance.now();
    const isNew = now - this.#lastAt > QUIET_MS;
    this.#lastAt = now;
    if (this.#onError !== undefined) this.#onError(error);
    else if (isNew) console.warn(`tidegate: ${this.#what} failed; give onError to be told each time:`, error);
  }
}
