// For Hono, on every runtime that it runs on.
import { addressOf, headersBeside, limitOptions, passedOn, refusePaths } from "./shared.js";

const INSTEAD = "put tidegate/fetch around app.fetch, as the README shows";

/** Middleware that limits; the decision is `c.get("ratelimit")`. `limiter` may be a function of the context. */
export function ratelimit(limiter, settings) {
  if (typeof limiter !== "function") refusePaths(limiter, "Hono", INSTEAD);
  return async (c, next) => {
    const use = typeof limiter === "function" ? limiter(c) : limiter;
    refusePaths(use, "Hono", INSTEAD);
    const { raw } = c.req;
    const options = await limitOptions(settings, c, addressOf(raw, c.env), () => raw.signal);
    const decision = await use.limit(raw, options);
    c.set("ratelimit", decision);
    if (Object.hasOwn(decision, "pending")) goingOn(c, decision.pending);
    if (!decision.success) return decision.response();
    c.req.raw = passedOn(raw, use, decision.degraded);
    await next();
    // The response of an upgrade cannot be changed.
    if (c.res.status === 101) return;
    for (const [name, value] of headersBeside(decision, c.res.headers)) c.header(name, value);
  };
}

/** Keeps a Worker alive for what still runs; elsewhere there is no such context, and its getter throws. */
function goingOn(c, pending) {
  let context;
  try {
    context = c.executionCtx;
  } catch {
    return;
  }
  context.waitUntil(pending);
}
