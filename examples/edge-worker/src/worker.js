// A Worker whose limits hold everywhere: the counters live in Durable Objects, one for each user or address.
import { durableObject, Ratelimit } from "tidegate";
import { ratelimit } from "tidegate/fetch";
import policy from "./policy.json";

export { RatelimitObject } from "tidegate/durable-object";

let limiter;

function limiterOf(env) {
  limiter ??= new Ratelimit({ policy, store: durableObject(env.LIMITS) });
  return limiter;
}

async function answer(request) {
  return Response.json({ path: new URL(request.url).pathname });
}

export default { fetch: ratelimit(limiterOf, answer) };
