// Requests that a rule's strategy `queue` lets in later: the jobs that a queue of yours keeps, what the client is told, and
// carrying jobs out when their moment has come. The terms are the proxy's: a 202 means that the queue has the job; at
// least once; each try with the same idempotency key.
import { shown } from "./lib/arguments.js";
import { isFetchRequest } from "./lib/request.js";
import { within } from "./lib/time.js";

/** What concerns one connection, or only whoever sets it: never kept, not even where a rule names it. */
const NOT_KEPT = /^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|host|content-length|idempotency-key|x-envoy-.*|x-tidegate-.*)$/;
/** Cloudflare delays a message by twelve hours at most; a consumer that comes too early puts it off again. */
const LONGEST_DELAY_SECONDS = 43_200;
const LONGEST_BACKOFF_MS = 300_000;

/** For the setting `queue` of a limiter: jobs go to a function, or into a Cloudflare queue by its binding. */
export function queueTo(target) {
  if (typeof target === "function") return new Jobs(target);
  if (typeof target?.send !== "function") {
    throw new TypeError(`queueTo() takes a function or the binding of a queue, not ${shown(target)}`);
  }
  return new Jobs(async (job) => {
    await target.send(job, { contentType: "json", delaySeconds: seconds(job.delayMs) });
  });
}

class Jobs {
  #take;

  constructor(take) {
    this.#take = take;
  }

  /** Makes a job of a request and hands it over. Returns what the client is told, and the job where it was taken. */
  async enqueue(subject, rule, { delayMs, headerLines }, dueAt, timeoutMs) {
    const refused = (status, detail, error) => {
      const body = { type: "about:blank", status, detail };
      return { error, texts: answer("application/problem+json", body, status, delayMs, headerLines) };
    };
    try {
      const job = await jobOf(subject, rule, delayMs, dueAt);
      if (job === undefined) return refused(413, "The request body is larger than this queue takes.");
      const location = await within(() => this.#take(job), timeoutMs);
      const lines = typeof location === "string" ? [["location", location], ...headerLines] : headerLines;
      const told = { estimated_wait_seconds: Math.max(1, seconds(delayMs)), location, status: "waiting", ticket: job.ticket };
      return { job, texts: answer("application/json", told, 202, delayMs, lines) };
    } catch (error) {
      return refused(rule.queue.full_status, "The queue did not take the request.", error);
    }
  }
}

async function jobOf(subject, rule, delayMs, dueAt) {
  const { headers, max_body_bytes, max_attempts, backoff_ms } = rule.queue;
  const kept = new Set(["content-type", "content-encoding", ...headers].filter((name) => !NOT_KEPT.test(name)));
  const lines = linesOf(subject.headers);
  const bytes = await bodyOf(subject, lines, max_body_bytes);
  if (bytes === undefined) return undefined;
  return {
    ticket: Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    rule: rule.name,
    method: subject.method ?? "GET",
    ...(isFetchRequest(subject) ? { url: subject.url } : { path: subject.path }),
    headers: lines.filter(([name]) => kept.has(name)),
    body: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")),
    delayMs,
    dueAt,
    maxAttempts: max_attempts,
    backoffMs: backoff_ms,
  };
}

function linesOf(headers) {
  const lines = [];
  const pairs = typeof headers?.[Symbol.iterator] === "function" ? headers : Object.entries(headers ?? {});
  for (const [name, values] of pairs) {
    for (const value of Array.isArray(values) ? values : [values]) {
      if (value !== undefined && value !== null) lines.push([name.toLowerCase(), value]);
    }
  }
  return lines;
}

/** The body's bytes; undefined where there are more than `most`. */
async function bodyOf(subject, lines, most) {
  if (!isFetchRequest(subject)) {
    const given = Object.hasOwn(subject, "body") ? subject.body : undefined;
    if (typeof given === "function") return given(most);
    const says = (name) => lines.some(([known, value]) => known === name && value !== "0");
    if (given === undefined && (says("content-length") || says("transfer-encoding"))) {
      throw new Error("a request that may be queued needs its body: give it as `body`");
    }
    const bytes = typeof given === "string" ? new TextEncoder().encode(given) : new Uint8Array(given ?? 0);
    return bytes.length > most ? undefined : bytes;
  }
  if (subject.bodyUsed) throw new Error("a request that may be queued must not have been read");
  const bytes = [];
  const reader = subject.body === null ? undefined : subject.clone().body?.getReader();
  while (reader !== undefined) {
    const { done, value } = await reader.read();
    if (done) break;
    if (bytes.length + value.length > most) {
      // A clone that nobody reads on holds its source up; whether it ends well is nobody's concern.
      reader.cancel().catch(() => {});
      return undefined;
    }
    for (const byte of value) bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function answer(type, body, status, delayMs, lines) {
  const headers = [
    ["content-type", type],
    ["cache-control", "no-store"],
    ["retry-after", String(Math.max(1, seconds(delayMs)))],
    ...lines,
  ];
  return { reason: "over_quota", status, grpc: "", headers, body: JSON.stringify(body) };
}

/** The request that a job stands for; `origin` says where to, else it is the one that the request came to. */
export function requestOf(job, origin, attempt = 1) {
  const came = new URL(job.url ?? job.path, job.url === undefined ? origin : undefined);
  const url = origin === undefined ? came : new URL(came.pathname + came.search, origin);
  const headers = new Headers(job.headers);
  headers.set("idempotency-key", job.ticket);
  headers.set("x-tidegate-attempt", String(attempt));
  headers.set("x-tidegate-rule", job.rule);
  const body = Uint8Array.from(atob(job.body), (character) => character.charCodeAt(0));
  return new Request(url, { method: job.method, headers, body: body.length > 0 ? body : undefined });
}

/**
 * Carries out a batch of a Cloudflare queue: `send` gets each job's request when its moment has come. No answer, 408, 429
 * and 5xx are tried again, later each time, as often as the rule says; any other answer ends the job. `onEnd` is told how.
 */
export async function carryOut(batch, send, { origin, onEnd, now = Date.now } = {}) {
  await Promise.all(
    batch.messages.map(async (message) => {
      const { body: job, attempts } = message;
      const early = job.dueAt - now();
      if (early > 999) return message.retry({ delaySeconds: seconds(early) });
      // A queue counts also the deliveries that came too early.
      const tries = Math.max(1, attempts - Math.floor(job.delayMs / 1_000 / LONGEST_DELAY_SECONDS));
      const ended = await Promise.resolve()
        .then(() => send(requestOf(job, origin, tries), job))
        .catch((error) => error);
      const again = !(ended instanceof Response) || ended.status === 408 || ended.status === 429 || ended.status >= 500;
      if (again && tries < job.maxAttempts) {
        return message.retry({ delaySeconds: seconds(Math.min(job.backoffMs * 2 ** (tries - 1), LONGEST_BACKOFF_MS)) });
      }
      await onEnd?.(job, ended);
      message.ack();
    }),
  );
}

function seconds(millis) {
  return Math.min(Math.ceil(millis / 1_000), LONGEST_DELAY_SECONDS);
}
