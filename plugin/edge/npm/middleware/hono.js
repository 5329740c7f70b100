// For Hono, on every runtime that it runs on.
import { addressOf, limitOptions } from "./shared.js";

/** Middleware that limits; the decision is `c.get("ratelimit")`. `limiter` may be a function of the context. */
export function ratelimit(limiter, settings) {
  return async (c, next) => {
    const use = typeof limiter === "function" ? limiter(c) : limiter;
    const options = await limitOptions(settings, c, addressOf(c.req.raw, c.env), c.req.raw);
    const decision = await use.limit(c.req.raw, options);
    if (!decision.success) return decision.response();
    c.set("ratelimit", decision);
    await next();
    for (const [name, value] of Object.entries(decision.headers)) c.header(name, value);
  };
}
