import type { Decision, Ratelimit } from "./index.js";

/** What a middleware asks with; each member may be a function of the framework's request or context. */
export interface MiddlewareSettings<Context = any> {
  ip?: string | ((context: Context) => string | undefined | Promise<string | undefined>);
  user?: string | ((context: Context) => string | undefined | Promise<string | undefined>);
  metadata?: Record<string, string> | ((context: Context) => Record<string, string> | undefined);
  cost?: number | ((context: Context) => number | undefined);
  /** Holds throttled requests until their moment. */
  wait?: boolean;
}

/**
 * Puts the limiter in front: of Hono (`tidegate/hono`), Express (`tidegate/express`), Fastify's `onRequest` hook
 * (`tidegate/fastify`), or, with the handler as second argument, of a fetch handler (`tidegate/fetch`).
 */
export function ratelimit(limiter: Ratelimit | ((context: any) => Ratelimit), ...rest: any[]): (...context: any[]) => Promise<any>;
export type { Decision };
