// One of the Workers that share a limit in Redis.
import { Ratelimit, upstash } from "tidegate";

let limiter;

export default {
  async fetch(request, env, context) {
    limiter ??= Ratelimit.quota({ rate: 50, window: "1 h", store: upstash({ url: env.URL, token: env.TOKEN }), onStoreError: "deny", storeTimeoutMs: 20_000 });
    const decision = await limiter.limit(new URL(request.url).searchParams.get("key"));
    context.waitUntil(decision.pending);
    return decision.success ? new Response("ok", { headers: decision.headers }) : decision.response();
  },
};
