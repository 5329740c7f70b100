// For Express, and what speaks its middleware: also a plain server of Node's.
import { described, leaving, withHeaders, withoutForged } from "./incoming.js";
import { limitOptions, linesByName } from "./shared.js";

/** Middleware that limits; the decision is `request.ratelimit`. The address is `request.ip`: what Express trusts. */
export function ratelimit(limiter, settings) {
  return async (request, response, next) => {
    let decision;
    try {
      const ip = request.ip ?? request.socket?.remoteAddress;
      const options = await limitOptions(settings, request, ip, () => leaving(response));
      const asked = described(request, request.originalUrl ?? request.url);
      withoutForged(request, limiter);
      decision = await limiter.limit(asked, options);
      if (decision.degraded !== undefined) reduce(request, decision.degraded);
    } catch (error) {
      return response.destroyed ? undefined : next(error);
    }
    for (const [name, value] of Object.entries(linesByName(decision))) response.setHeader(name, value);
    request.ratelimit = decision;
    if (decision.success) return next();
    response.statusCode = decision.status;
    response.end(decision.body);
  };
}

/** Gives the request its reduced form; Express chooses the route by `url`, which lacks the path that this is mounted at. */
function reduce(request, { rule, path, headers }) {
  if (path !== undefined) {
    const mounted = request.baseUrl ?? "";
    if (mounted !== "" && !`${path}/`.toLowerCase().startsWith(`${mounted}/`.toLowerCase())) {
      throw new Error(`the rule "${rule}" forwards to ${path}, outside of ${mounted}, where this middleware is mounted: use it without a path`);
    }
    request.url = path.slice(mounted.length) || "/";
  }
  withHeaders(request, headers);
}
