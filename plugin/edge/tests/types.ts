// Compiled, not run: the types must take what the README shows.
import fastify from "fastify";
import { Hono } from "hono";
import { denoKv, durableObject, memory, PolicyError, Ratelimit, upstash, type Decision, type Job } from "tidegate";
import { RatelimitObject } from "tidegate/durable-object";
import * as forExpress from "tidegate/express";
import * as forFastify from "tidegate/fastify";
import * as forFetch from "tidegate/fetch";
import { ratelimit } from "tidegate/hono";
import { carryOut, queueTo, requestOf } from "tidegate/queue";

export { RatelimitObject };

export async function use(request: Request, namespace: { idFromName(name: string): string; get(id: string): object }): Promise<Response> {
  const limiter = new Ratelimit({ policy: { version: 1, rules: [] }, store: memory({ maxKeys: 2048 }), onStoreError: "deny" });
  const decision: Decision = await limiter.limit(request, { ip: "192.0.2.1", user: "u", cost: 2, wait: true, signal: request.signal });
  if (!decision.success) return decision.response();
  const simple = Ratelimit.quota({ rate: 10, window: "10 s", algorithm: "sliding_window", store: durableObject(namespace, { shards: 4 }) });
  const { success, limit, remaining, reset, retryAfter, rule, reason, headers, pending, degraded, delayMs } = await simple.limit("user-1", { cost: 2 });
  await simple.limit({ key: "user-1" });
  await simple.limit({ method: "GET", path: "/", headers: { accept: ["a", "b"] }, ip: "192.0.2.1" });
  // @ts-expect-error: a key is text
  await simple.limit(1);
  // @ts-expect-error: there is no such algorithm
  Ratelimit.quota({ rate: 1, window: 1, algorithm: "token_buket" });
  const given = limiter.grant({ admin_id: "ops", target_user_id: "u", reason: "testing", duration_minutes: 5, unlimited: true });
  limiter.revoke(given.override_id);
  const error = new PolicyError();
  return Response.json([success, limit, remaining, reset, retryAfter, rule, reason, headers, pending, degraded, delayMs, limiter.metrics().cells, error.mistakes, denoKv, ratelimit(limiter)]);
}

export async function queueing(jobs: { send(job: Job, options?: { delaySeconds?: number }): Promise<void> }): Promise<string | undefined> {
  const store = upstash({ url: "http://127.0.0.1:8079", token: "t" });
  const limiter = new Ratelimit({ policy: {}, store, queue: queueTo(jobs) });
  Ratelimit.quota({ rate: 1, window: 1, store: { eval: async (script: string, keys: string[], words: string[]) => [script, keys, words] } });
  new Ratelimit({ policy: {}, queue: queueTo(async (job) => `/jobs/${job.ticket}`) });
  limiter.grant({ admin_id: "ops", target_rule: "*", reason: "other", duration_minutes: 1, rate_multiplier: 2 });
  const { queued } = await limiter.limit({ method: "POST", path: "/", body: "x", user: "u" });
  await carryOut({ messages: [] }, (request, job) => fetch(request, { headers: { "x-rule": job.rule } }));
  return queued && requestOf(queued, "http://inside").url;
}

export function adapters(limiter: Ratelimit): unknown[] {
  const app = new Hono().use("*", ratelimit((c) => c.env.LIMITER, { user: (c) => c.req.header("x-user"), wait: false }));
  // What stands for the decision is typed.
  app.use(ratelimit(limiter)).get("/", (c) => c.text(c.get("ratelimit").outcome));
  const server = fastify();
  server.addHook("onRequest", forFastify.ratelimit(limiter, { ip: (request) => request.ip }));
  const express = forExpress.ratelimit(limiter, { user: (request) => request.user?.id });
  const handler: (request: Request, env: { LIMITER: Ratelimit }) => Promise<Response> = forFetch.ratelimit(
    (env: { LIMITER: Ratelimit }) => env.LIMITER,
    async (request, env) => new Response(request.url + env.LIMITER.metrics().store_failures),
    { cost: (request) => request.url.length },
  );
  // @ts-expect-error: the handler is missing
  forFetch.ratelimit(limiter);
  // @ts-expect-error: settings are no handler
  ratelimit(limiter, async () => new Response());
  // @ts-expect-error: there is no such setting
  forExpress.ratelimit(limiter, { waits: true });
  return [app, server, express, handler];
}

export async function looking(limiter: Ratelimit): Promise<boolean> {
  const [told] = await limiter.explain("user-1", { rule: "r", cost: 2 });
  await limiter.reset("user-1", { rule: "r" });
  // @ts-expect-error: a request has no counter of its own
  await limiter.reset(new Request("http://a/"));
  const { storeFailed } = await limiter.limit("user-1");
  return storeFailed || limiter.reserves("x-lite") || limiter.changesPath !== undefined || told?.conforms === true;
}
