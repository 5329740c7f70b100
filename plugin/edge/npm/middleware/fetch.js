// For whatever serves with a function from Request to Response: Workers, Deno.serve, Bun.serve.
import { addressOf, headersBeside, limitOptions, passedOn } from "./shared.js";

/** The handler with the limiter before it: `(request, envOrInfoOrServer, context) => Response`. */
export function ratelimit(limiter, handler, settings) {
  return async (request, info, context) => {
    const use = typeof limiter === "function" ? limiter(info) : limiter;
    const options = await limitOptions(settings, request, addressOf(request, info), () => request.signal);
    const decision = await use.limit(request, options);
    context?.waitUntil?.(decision.pending);
    if (!decision.success) return decision.response();
    return withHeaders(await handler(passedOn(request, use, decision.degraded), info, context), decision);
  };
}

/** The response with the decision's headers: a copy, since some have headers that cannot be changed. */
function withHeaders(response, decision) {
  // A copy of an upgrade's response is no upgrade.
  if (response.status === 101) return response;
  const changed = new Response(response.body, response);
  for (const [name, value] of headersBeside(decision, response.headers)) changed.headers.set(name, value);
  return changed;
}
