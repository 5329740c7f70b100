// What the package exports; each entry file starts the engine first.
export { Ratelimit } from "./ratelimit.js";
export { PolicyError } from "./policy-error.js";
export { memory } from "../stores/memory.js";
export { durableObject } from "../stores/durable-object.js";
export { denoKv } from "../stores/deno-kv.js";
export { upstash } from "../stores/redis.js";
