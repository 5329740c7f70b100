// For Fastify: a hook to add with `app.addHook("onRequest", ratelimit(limiter))`.
import { limitOptions, linesByName } from "./shared.js";

/** A hook that limits; the decision is `request.ratelimit`. The address is `request.ip`: what Fastify trusts. */
export function ratelimit(limiter, settings) {
  return async (request, reply) => {
    const options = await limitOptions(settings, request, request.ip);
    const { method, url, rawHeaders } = request.raw;
    const headers = [];
    for (let index = 0; index < rawHeaders.length; index += 2) headers.push([rawHeaders[index], rawHeaders[index + 1]]);
    const decision = await limiter.limit({ method, path: url, headers }, options);
    reply.headers(linesByName(decision));
    if (decision.success) {
      request.ratelimit = decision;
      return;
    }
    return reply.code(decision.status).send(decision.body);
  };
}
