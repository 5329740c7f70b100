import type { FastifyReply, FastifyRequest } from "fastify";
import type { Decision, Ratelimit } from "../index.js";
import type { MiddlewareSettings } from "./shared.js";

export type { Decision, MiddlewareSettings };

/**
 * A hook for `app.addHook("onRequest", ...)`. The decision is the request's `ratelimit`. Throws a `TypeError` for a policy with a
 * rule that forwards to another path, which no hook can.
 */
export function ratelimit(
  limiter: Ratelimit,
  settings?: MiddlewareSettings<FastifyRequest>,
): (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
