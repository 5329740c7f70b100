import type { Decision, Ratelimit } from "../index.js";
import type { MiddlewareSettings } from "./shared.js";

export type { Decision, MiddlewareSettings };

/** What the middleware needs of a request: Express's `Request` fits, and Node's `IncomingMessage`. */
export interface IncomingRequest {
  method?: string;
  url?: string;
  rawHeaders: string[];
}

/** What it needs of a response. */
export interface OutgoingResponse {
  statusCode: number;
  setHeader(name: string, value: string | string[]): unknown;
  end(body: string): unknown;
}

/** Middleware for `app.use()`. The decision is the request's `ratelimit`; errors go to `next`. */
export function ratelimit<Request extends IncomingRequest = IncomingRequest & { [member: string]: any }>(
  limiter: Ratelimit,
  settings?: MiddlewareSettings<Request>,
): (request: Request, response: OutgoingResponse, next: (error?: any) => void) => Promise<void>;
