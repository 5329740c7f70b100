// One decision as callers see it. Its texts (headers, the answer's body) are made when somebody asks for them.

export const UNLIMITED = 0;
export const ALLOWED = 1;
export const DEGRADED = 2;
export const DEGRADED_ANSWER = 3;
export const DELAYED = 4;
export const QUEUED = 5;
export const LIMITED = 6;

const WORDS = ["unlimited", "allowed", "degraded", "degraded", "delayed", "queued", "limited"];
const NOTHING_PENDING = Promise.resolve();

/** What the limiter says of one request or key. */
export class Decision {
  #outcome;
  #texts;
  #makeTexts;

  constructor(outcome, rule, limit, remaining, reset, retryAfterMs, delayMs, texts, makeTexts) {
    this.success = outcome < DEGRADED_ANSWER || outcome === DELAYED;
    this.limit = limit;
    this.remaining = remaining;
    this.reset = reset;
    this.retryAfter = Math.ceil(retryAfterMs / 1_000);
    this.retryAfterMs = retryAfterMs;
    this.rule = rule;
    this.delayMs = delayMs;
    this.#outcome = outcome;
    this.#texts = texts;
    this.#makeTexts = makeTexts;
  }

  /** One word: unlimited, allowed, degraded, delayed, queued or limited. */
  get outcome() {
    return WORDS[this.#outcome];
  }

  /** Why the request was limited: over_quota, contended or store_failed; undefined where it was not. */
  get reason() {
    if (this.#outcome <= ALLOWED) return undefined;
    return this.#read().reason;
  }

  /** The headers that Tidegate gives the response, whoever answers; of a refusal, all of them. */
  get headers() {
    return Object.fromEntries(this.#read().headers);
  }

  /** The same line by line: an answer that the policy writes may have several lines of one name. */
  get headerLines() {
    return this.#read().headers.map((line) => [...line]);
  }

  /** The status of Tidegate's own answer; undefined where the request goes on. */
  get status() {
    return this.#read().status || undefined;
  }

  /** Tidegate's own answer. */
  response() {
    const { status, grpc, headers, body } = this.#read();
    if (status === 0) throw new Error("there is nothing to answer: the request goes on");
    const all = new Headers(headers);
    if (grpc !== "") {
      // A gRPC answer without messages carries its status in the headers ("Trailers-Only").
      all.set("content-type", "application/grpc");
      all.set("grpc-status", grpc);
      all.set("grpc-message", percentEncoded(body));
      return new Response(null, { status: 200, headers: all });
    }
    const hasBody = body !== "" && status !== 204 && status !== 205 && status !== 304;
    return new Response(hasBody ? body : null, { status, headers: all });
  }

  /** The body of Tidegate's own answer; of a gRPC answer the message. Empty where the request goes on. */
  get body() {
    return this.#read().body;
  }

  #read() {
    if (this.#outcome === UNLIMITED) return { reason: undefined, status: 0, grpc: "", headers: [], body: "" };
    if (typeof this.#texts === "object") return this.#texts;
    this.#texts = parse(this.#texts ?? this.#makeTexts());
    this.#makeTexts = undefined;
    return this.#texts;
  }
}

// What most decisions have in common stands here once.
Decision.prototype.pending = NOTHING_PENDING;
Decision.prototype.degraded = undefined;

/** `rule, reason, status, gRPC status, number of headers`, names and values, then the body, which may hold NULs. */
function parse(text) {
  const fields = text.split("\0");
  const count = Number(fields[4]);
  const headers = [];
  for (let index = 0; index < count; index += 1) headers.push([fields[5 + 2 * index], fields[6 + 2 * index]]);
  const body = fields.slice(5 + 2 * count).join("\0");
  return { reason: fields[1] || undefined, status: Number(fields[2]), grpc: fields[3], headers, body };
}

/** gRPC over HTTP/2, "Percent-Encoded": bytes outside of the printable ASCII range, and the percent sign. */
function percentEncoded(text) {
  return text.replace(/[^ -$&-~]/gu, (character) => encodeURIComponent(character));
}
