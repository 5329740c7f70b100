// One decision as callers see it. What few callers look at (headers, the answer's body) is made when it is asked for.

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
  #code;
  #waitUs;
  #resetUs;
  #retryUs;
  #texts;

  /** `texts` are the engine's; or an object that makes them from the numbers. */
  constructor(code, rule, limit, remaining, reset, waitUs, resetUs, retryUs, texts) {
    const outcome = code & 7;
    this.success = outcome < DEGRADED_ANSWER || outcome === DELAYED;
    this.limit = limit;
    this.remaining = remaining;
    this.reset = reset;
    this.retryAfter = outcome === LIMITED ? Math.ceil(retryUs / 1_000_000) : 0;
    this.rule = rule;
    this.delayMs = outcome === DELAYED || outcome === QUEUED ? Math.ceil(waitUs / 1_000) : 0;
    this.#code = code;
    this.#waitUs = waitUs;
    this.#resetUs = resetUs;
    this.#retryUs = retryUs;
    this.#texts = texts;
  }

  /** One word: unlimited, allowed, degraded, delayed, queued or limited. */
  get outcome() {
    return WORDS[this.#code & 7];
  }

  /** Milliseconds until the same request would pass, not rounded. */
  get retryAfterMs() {
    return (this.#code & 7) === LIMITED ? this.#retryUs / 1_000 : 0;
  }

  /** Why the request was limited: over_quota, contended or store_failed; undefined where it was not. */
  get reason() {
    if ((this.#code & 7) <= ALLOWED) return undefined;
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

  /** The same decision with another answer, which its caller has made. */
  answering(outcome, texts) {
    const wait = outcome === LIMITED ? this.#waitUs : this.#retryUs;
    return new Decision(outcome, this.rule, this.limit, this.remaining, this.reset, this.#waitUs, this.#resetUs, wait, texts);
  }

  #read() {
    if ((this.#code & 7) === UNLIMITED) return { reason: undefined, status: 0, grpc: "", headers: [], body: "" };
    const texts = this.#texts;
    if (typeof texts === "object" && texts.maker === undefined) return texts;
    this.#texts = parse(typeof texts === "string" ? texts : texts.maker(this.#code, this.#waitUs, this.remaining, this.#resetUs, this.#retryUs));
    return this.#texts;
  }
}

// What most decisions have in common stands here once.
Decision.prototype.pending = NOTHING_PENDING;
Decision.prototype.degraded = undefined;
Decision.prototype.queued = undefined;
Decision.prototype.storeFailed = false;

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
