import type { Decision, Ratelimit } from "../index.js";
import type { MiddlewareSettings } from "./shared.js";

export type { Decision, MiddlewareSettings };

/**
 * The handler with the limiter before it. `info` is what the runtime gives as second argument: a Worker's `env`, Deno's info,
 * Bun's server; `limiter` may be a function of it.
 */
export function ratelimit<Info = any, Context = any>(
  limiter: Ratelimit | ((info: Info) => Ratelimit),
  handler: (request: Request, info: Info, context: Context) => Response | Promise<Response>,
  settings?: MiddlewareSettings<Request>,
): (request: Request, info?: Info, context?: Context) => Promise<Response>;
