import type { Context, MiddlewareHandler } from "hono";
import type { Decision, Ratelimit } from "../index.js";
import type { MiddlewareSettings } from "./shared.js";

export type { Decision, MiddlewareSettings };

/**
 * Middleware for `app.use()`. The decision is `c.get("ratelimit")`. Throws a `TypeError` for a policy with a rule that forwards
 * to another path, which no middleware can; where `limiter` is a function, each request does.
 */
export function ratelimit(
  limiter: Ratelimit | ((c: Context) => Ratelimit),
  settings?: MiddlewareSettings<Context>,
): MiddlewareHandler<{ Variables: { ratelimit: Decision } }>;
