/** A rate limit in memory, Redis, a Durable Object or Deno KV, decided by the same engine as Tidegate's Envoy filter. */
export class Ratelimit {
  /** Reads the policy. Throws a {@link PolicyError} with every mistake, or a `TypeError` for other settings. */
  constructor(settings: RatelimitSettings);

  /** A limiter with one rule, for `limit(key)`. */
  static quota(settings: QuotaSettings): Ratelimit;

  /**
   * Decides and charges. Takes a key (a user that your code vouches for), `{ key }`, a fetch `Request`, or a request
   * described by its parts. With several rules, a key needs `rule`; which rules a request meets is the policy's to say.
   * Rejects with a `TypeError` for bad values, before anything is charged.
   */
  limit(subject: string | KeySubject | Request | RequestParts, options?: LimitOptions): Promise<Decision>;

  /**
   * Asks until the answer is no refusal, or until it could not be within `timeoutMs`: then the last refusal. A throttled
   * request is held where its moment comes in time, else its place is given back. What is queued, or served in a reduced
   * form, is not asked for again.
   */
  blockUntilReady(subject: string | KeySubject | Request | RequestParts, timeoutMs: number, options?: LimitOptions): Promise<Decision>;

  /**
   * Which rules a request meets, or what one rule says of a key: under which key, and what is left. Charges nothing; it is
   * what `getRemaining()` is elsewhere.
   */
  explain(subject: string | KeySubject | Request | RequestParts, options?: Omit<LimitOptions, "wait" | "signal">): Promise<Explained[]>;

  /**
   * Forgets what a rule has counted for a key, in this instance and in the store; other instances follow within a second. The
   * key of a `global` rule does not matter: it has one counter.
   */
  reset(key: string | KeySubject, options?: { rule?: string }): Promise<void>;

  /**
   * Whether only Tidegate may set the request header of this name: `x-tidegate-*`, and what a rule sets, with `_` for `-` too.
   * Take a client's copy out before a request goes on; the adapters do.
   */
  reserves(name: string): boolean;

  /** The first rule that forwards to another path (`graceful`, `forward.path`), for adapters that cannot do that. */
  readonly changesPath: string | undefined;

  /** Counts since this limiter was made, and how full its memory is. */
  metrics(): Metrics;

  /** Lifts rules for somebody for a while; in this instance's memory only. Throws a `TypeError` for bad values. */
  grant(override: Override): Override & GrantedOverride;

  /** Ends an override; false where there is none of that id. */
  revoke(overrideId: string): boolean;

  /** What the policy allows but probably does not mean. */
  readonly warnings: readonly { pointer: string; message: string }[];
}

/** The members that every limiter may be given. */
export interface CommonSettings {
  /** Where counters live; `memory()` where absent. */
  store?: Store;
  /** What decides when the store fails; where absent, what each rule's `on_store_error` says (default: local). */
  onStoreError?: "local" | "allow" | "deny";
  /** Is told each failure of the store and of the queue. Where absent, `console.warn` tells the first of each outage. */
  onError?: (error: unknown) => void;
  /** How long the store may take, 1 to 60,000 ms; 1,000 where absent. */
  storeTimeoutMs?: number;
  /** `false` asks the store for every request; else what it refused within the last second is refused without asking. */
  shortCircuit?: boolean;
  /** The clock in milliseconds since 1970, for tests; `Date.now` where absent. */
  now?: () => number;
}

export interface RatelimitSettings extends CommonSettings {
  /** A policy of version 1: an object, or its JSON text (which also finds duplicate members). */
  policy: object | string;
  /** Where rules with the strategy `queue` put requests: `queueTo(...)` of `tidegate/queue`. */
  queue?: RequestQueue;
}

/** Made by `queueTo()`. */
export interface RequestQueue {
  enqueue: unknown;
}

export interface QuotaSettings extends CommonSettings {
  /** How many a window, 1 to 10,000,000. */
  rate: number;
  /** The window: whole seconds, or "10 s", "1 m", "24 h", "7 d". */
  window: number | string;
  /** How many at once (token bucket), the depth of the queue (leaky bucket); `rate` where absent. */
  burst?: number;
  algorithm?: "token_bucket" | "leaky_bucket" | "fixed_window" | "sliding_window";
  /** `retry_after` where absent. */
  strategy?: string | ({ type: string } & Record<string, unknown>);
  headers?: "draft11" | "legacy" | "both" | "off";
}

export interface KeySubject {
  key: string;
}

/** A request by its parts, where there is no fetch `Request`. */
export interface RequestParts {
  /** GET where absent. */
  method?: string;
  /** The path as the client sent it, with its query. */
  path: string;
  /** Header lines; a list makes several lines of one name. */
  headers?: Iterable<readonly [string, string | string[]]> | Record<string, string | string[] | undefined>;
  ip?: string;
  user?: string;
  metadata?: Record<string, string>;
  /** The body, where a rule may queue the request; or what reads it then: nothing where it has more bytes than `most`. */
  body?: string | Uint8Array | ArrayBuffer | ((most: number) => Promise<Uint8Array | undefined>);
}

export interface LimitOptions {
  /** How much this takes: a whole number from 0 on; the rule's own where absent. 0 conforms always and charges nothing. */
  cost?: number;
  /** Which rule counts the key. */
  rule?: string;
  /** The client's address; a `TypeError` where it is none. It is never read from a header unless the policy says so. */
  ip?: string;
  /** The user, whom your code has verified. */
  user?: string;
  /** Values for the policy's metadata sources, by their path joined with "/". */
  metadata?: Record<string, string>;
  /** Sleeps until a throttled request's moment, instead of telling `delayMs`. */
  wait?: boolean;
  /** Ends a wait: the place is given back, and `limit()` rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** What the limiter says of one request or key. */
export interface Decision {
  /** Go on. Where it is false, answer with `response()`. */
  readonly success: boolean;
  /** The rate of the rule that stands for the decision; `Infinity` where none applied. */
  readonly limit: number;
  /** Units left after this one. */
  readonly remaining: number;
  /** When there is more: milliseconds since 1970. */
  readonly reset: number;
  /** Whole seconds until the same request would pass, as in `Retry-After`; 0 where it did. */
  readonly retryAfter: number;
  /** The same in milliseconds, not rounded. */
  readonly retryAfterMs: number;
  /** The rule that decided, or the one nearest to its limit. */
  readonly rule: string | undefined;
  readonly outcome: "unlimited" | "allowed" | "degraded" | "delayed" | "queued" | "limited";
  /** Why the request was limited. */
  readonly reason: "over_quota" | "contended" | "store_failed" | undefined;
  /** The store did not answer: what `on_store_error` says has decided. */
  readonly storeFailed: boolean;
  /** How long to hold the request before it goes on (strategy `throttle`). */
  readonly delayMs: number;
  /** The reduced form to ask for (strategy `graceful` with `forward`). */
  readonly degraded: { rule: string; path: string | undefined; headers: Record<string, string> } | undefined;
  /** The job that a queue has taken (strategy `queue`); `response()` is then 202 with its ticket. */
  readonly queued: Job | undefined;
  /** Headers for the response, whoever gives it; of a refusal, all of its headers. */
  readonly headers: Record<string, string>;
  /** The same line by line: an answer that the policy writes may have several lines of one name. */
  readonly headerLines: [string, string][];
  /** The status of Tidegate's own answer, or undefined. */
  readonly status: number | undefined;
  /** The body of Tidegate's own answer, or "". */
  readonly body: string;
  /** Work that goes on after the decision, such as giving back what a Cluster's other node charged: for `ctx.waitUntil`. */
  readonly pending: Promise<void>;
  /** Tidegate's own answer: 429 with problem details, or what the strategy says. Throws where the request goes on. */
  response(): Response;
}

export interface Explained {
  rule: string;
  /** Whether its verdict counts: not in shadow, no admin, not lifted. */
  enforced: boolean;
  key: string;
  limit: number;
  cost: number;
  remaining: number;
  resetAfterMs: number;
  /** Whether the request would conform now. */
  conforms: boolean;
  strategy: string;
}

export interface Metrics {
  outcomes: Record<string, number>;
  rules: Record<string, { conforming: number; limited: number; would_limit: number }>;
  /** Cells in memory, and about how many bytes they take. */
  cells: number;
  cell_bytes: number;
  /** Cells given up in a full table; exactness holds while `given_up_limiting` is 0. */
  given_up_idle: number;
  given_up_limiting: number;
  /** Requests that wait, and requests whose store is being asked. */
  waiting: number;
  asking: number;
  /** How often the store, and how often the queue, has failed. */
  store_failures: number;
  queue_failures: number;
}

/** An exception, in the words of the admin API. At least one target is needed; `target_rule: "*"` is every rule. */
export interface Override {
  admin_id: string;
  target_user_id?: string;
  target_ip?: string;
  target_endpoint?: string;
  target_rule?: string;
  reason: "emergency_access" | "maintenance" | "testing" | "customer_support" | "other";
  /** 1 to 10,080. */
  duration_minutes: number;
  /** The rules are counted and do not act. Either this or `rate_multiplier`. */
  unlimited?: true;
  /** How many times the quota: above 1, at most 1,000. What is spent under it is no debt when it ends. */
  rate_multiplier?: number;
  note?: string;
}

export interface GrantedOverride {
  override_id: string;
  created_at: string;
  expires_at: string;
}

export interface Mistake {
  /** JSON pointer to the place. */
  pointer: string;
  found: string;
  allowed: string;
  suggestion: string | null;
  message: string;
}

/** A policy that says something wrong: every mistake at once. */
export class PolicyError extends Error {
  readonly mistakes: Mistake[];
}

/** Where counters live. Made by `memory()`, `upstash()`, `durableObject()` and `denoKv()`; or your own client of Redis. */
export type Store = MadeStore | ScriptRunner;

export interface MadeStore {
  readonly acquire?: unknown;
  readonly maxKeys?: number;
}

/** Runs Lua scripts in a Redis: a client of `@upstash/redis` as it is, others through an adapter. */
export interface ScriptRunner {
  eval(script: string, keys: string[], words: string[]): Promise<unknown>;
  /** By the script's SHA-1, which spares sending it each time. Where it rejects with NOSCRIPT, `eval` is called. */
  evalsha?(sha1: string, keys: string[], words: string[]): Promise<unknown>;
}

/**
 * Counters in Redis over HTTP: Upstash, or your own behind `tidegate-gateway`. The keys and the script are the Envoy filter's:
 * with the same policy and the same Redis they share their limits.
 */
export function upstash(settings: { url: string; token?: string }): Store;

/** A request that waits in a queue: JSON. */
export interface Job {
  /** 32 hexadecimal digits that nobody can guess; each try's idempotency key. */
  ticket: string;
  rule: string;
  method: string;
  /** The address of a fetch `Request`; else `path`. */
  url?: string;
  path?: string;
  headers: [string, string][];
  /** Base64. */
  body: string;
  delayMs: number;
  /** When it may be carried out: milliseconds since 1970. */
  dueAt: number;
  maxAttempts: number;
  backoffMs: number;
}

/** Counters in this instance's memory, for about `maxKeys` keys at once (1,024 to 4,194,304; 65,536 where absent). */
export function memory(settings?: { maxKeys?: number }): Store;

/**
 * Counters in Durable Objects of the class `RatelimitObject` (`tidegate/durable-object`): one object an identity, or
 * `shards` objects for all of them.
 */
export function durableObject(namespace: ObjectNamespace, settings?: { shards?: number }): Store;

/** What `durableObject()` needs of a binding: `DurableObjectNamespace` fits. */
export interface ObjectNamespace {
  idFromName(name: string): unknown;
  get(id: any): any;
}

/** Counters in Deno KV: optimistic transactions, tried at most `tries` times (64 where absent). */
export function denoKv(database: KvDatabase, settings?: { tries?: number }): Store;

/** What `denoKv()` needs of a database: `Deno.Kv` fits. */
export interface KvDatabase {
  getMany(keys: any): Promise<any>;
  atomic(): any;
}
