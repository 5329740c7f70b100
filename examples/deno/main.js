// A Deno server that limits each address; with `--kv`, in Deno KV, so that every instance shares the counters.
import { denoKv, memory, Ratelimit } from "tidegate";
import { ratelimit } from "tidegate/fetch";

const store = Deno.args.includes("--kv") ? denoKv(await Deno.openKv(Deno.env.get("KV_PATH"))) : memory();
const limiter = Ratelimit.quota({ rate: 5, window: "1 m", store });

const handler = async (request, info) => {
  const decision = await limiter.limit(info.remoteAddr.hostname);
  if (!decision.success) return decision.response();
  return Response.json({ left: decision.remaining }, { headers: decision.headers });
};

// The same with a policy: the middleware asks with the request and its address.
const policy = { version: 1, rules: [{ name: "pages", scope: "per_ip", rate: 3, window_seconds: 60, endpoints: ["/pages/*"] }] };
const limited = ratelimit(new Ratelimit({ policy, store }), handler);

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT") ?? 8000) }, limited);
