// For Fastify: a hook to add with `app.addHook("onRequest", ratelimit(limiter))`.
import { described, leaving, withHeaders, withoutForged } from "./incoming.js";
import { limitOptions, linesByName, refusePaths } from "./shared.js";

/** A hook that limits; the decision is `request.ratelimit`. The address is `request.ip`: what Fastify trusts. */
export function ratelimit(limiter, settings) {
  refusePaths(limiter, "Fastify", "put tidegate/express before it with serverFactory, as the README shows");
  return async (request, reply) => {
    const { raw } = request;
    const options = await limitOptions(settings, request, request.ip, () => leaving(reply.raw));
    const asked = described(raw, raw.url);
    withoutForged(raw, limiter);
    let decision;
    try {
      decision = await limiter.limit(asked, options);
    } catch (error) {
      if (!reply.raw.destroyed) throw error;
      // The client has left, and there is nobody to answer.
      return reply.hijack();
    }
    reply.headers(linesByName(decision));
    request.ratelimit = decision;
    if (!decision.success) return reply.code(decision.status).send(decision.body);
    if (decision.degraded !== undefined) withHeaders(raw, decision.degraded.headers);
  };
}
