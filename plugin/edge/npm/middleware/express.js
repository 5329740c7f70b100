// For Express, and what speaks its middleware.
import { limitOptions, linesByName } from "./shared.js";

/** Middleware that limits; the decision is `request.ratelimit`. The address is `request.ip`: what Express trusts. */
export function ratelimit(limiter, settings) {
  return async (request, response, next) => {
    let decision;
    try {
      const options = await limitOptions(settings, request, request.ip ?? request.socket?.remoteAddress);
      const gone = new AbortController();
      response.once("close", () => gone.abort());
      decision = await limiter.limit(described(request), { ...options, signal: gone.signal });
    } catch (error) {
      return response.destroyed ? undefined : next(error);
    }
    for (const [name, value] of Object.entries(linesByName(decision))) response.setHeader(name, value);
    if (decision.success) {
      request.ratelimit = decision;
      return next();
    }
    response.statusCode = decision.status;
    response.end(decision.body);
  };
}

/** The request as it was received: `rawHeaders` keeps repeated lines apart. */
function described({ method, originalUrl, url, rawHeaders }) {
  const headers = [];
  for (let index = 0; index < rawHeaders.length; index += 2) headers.push([rawHeaders[index], rawHeaders[index + 1]]);
  return { method, path: originalUrl ?? url, headers };
}
