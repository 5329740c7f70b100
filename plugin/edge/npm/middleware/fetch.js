// For whatever serves with a function from Request to Response: Workers, Deno.serve, Bun.serve.
import { addressOf, limitOptions } from "./shared.js";

/** The handler with the limiter before it: `(request, envOrInfoOrServer, context) => Response`. */
export function ratelimit(limiter, handler, settings) {
  return async (request, info, context) => {
    const use = typeof limiter === "function" ? limiter(info) : limiter;
    const options = await limitOptions(settings, request, addressOf(request, info), request);
    const decision = await use.limit(request, options);
    context?.waitUntil?.(decision.pending);
    if (!decision.success) return decision.response();
    const forwarded = decision.degraded ? reduced(request, decision.degraded) : request;
    return withHeaders(await handler(forwarded, info, context), decision.headers);
  };
}

/** The request as a rule's reduced form asks for it. */
function reduced(request, { path, headers }) {
  const changed = new Request(path === undefined ? request.url : new URL(path, request.url), request);
  for (const [name, value] of Object.entries(headers)) changed.headers.set(name, value);
  return changed;
}

/** The response with these headers; one whose headers cannot be changed is copied. */
function withHeaders(response, headers) {
  if (response.status === 101) return response;
  const changed = new Response(response.body, response);
  for (const [name, value] of Object.entries(headers)) changed.headers.set(name, value);
  return changed;
}
