import type { Job, RequestQueue } from "./index.js";

export type { Job };

/**
 * For the setting `queue`: hands jobs to a function, or puts them into a Cloudflare queue. A job is taken when the promise
 * resolves; what it resolves to, where it is text, is the `Location` that the client is told. When it rejects, or takes longer
 * than `storeTimeoutMs`, the request is refused and not charged.
 */
export function queueTo(
  target: ((job: Job) => Promise<string | void>) | { send(job: any, options?: any): Promise<unknown> },
): RequestQueue;

/** The request that a job stands for, to `origin` or to where it came to. */
export function requestOf(job: Job, origin?: string, attempt?: number): Request;

/** Carries out a batch of a Cloudflare queue, on the terms of the jobs' rules. `onEnd` gets the last response or error. */
export function carryOut(
  batch: { readonly messages: readonly any[] },
  send: (request: Request, job: Job) => Response | Promise<Response>,
  settings?: { origin?: string; onEnd?: (job: Job, end: unknown) => unknown; now?: () => number },
): Promise<void>;
