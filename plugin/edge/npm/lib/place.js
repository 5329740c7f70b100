// The place of a request that goes on later: what its decision charged, kept by the engine until the request does go on,
// or given back where it does not.

export class Place {
  #core;
  #clock;
  #refund;
  #generation;
  #id;

  /** The place that the last decision charged; `refund` gives it back where its cells are elsewhere. */
  constructor(core, clock, refund) {
    this.#core = core;
    this.#clock = clock;
    this.#refund = refund;
    this.#generation = core.generation;
    this.#id = core.call((limiter) => limiter.hold());
  }

  /** The request goes on. */
  leave() {
    this.#tell((limiter) => limiter.release(this.#id, false, this.#clock()));
  }

  /** The request does not go on after all. */
  async giveBack() {
    this.#tell((limiter) => limiter.release(this.#id, this.#refund === undefined, this.#clock()));
    await this.#refund?.();
  }

  /** A queue has the request: the place is counted until its moment. */
  queued() {
    this.#tell((limiter) => limiter.queued(this.#id));
  }

  /** No queue has it. Returns what still runs. */
  async notQueued() {
    this.#tell((limiter) => limiter.not_queued(this.#id, this.#refund === undefined, this.#clock()));
    await this.#refund?.();
  }

  /** An engine that was started anew knows nothing of this place. */
  #tell(use) {
    if (this.#core.generation === this.#generation) this.#core.call(use);
  }
}
