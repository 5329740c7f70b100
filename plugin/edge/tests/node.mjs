// What only Node can show: the middleware of Express, Fastify and Hono limits, and other packages' middleware takes our
// limiter as its binding. What else adapters do is in servers.mjs.
import { once } from "node:events";
import http from "node:http";
import { rateLimit, rateLimitPassed } from "@elithrar/workers-hono-rate-limit";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { rateLimiter } from "hono-rate-limiter";
import { Ratelimit } from "tidegate";
import { ratelimit as forExpress } from "tidegate/express";
import { ratelimit as forFastify } from "tidegate/fastify";
import { ratelimit as forFetch } from "tidegate/fetch";
import { ratelimit as forHono } from "tidegate/hono";

const perIp = { version: 1, rules: [{ name: "r", scope: "per_ip", rate: 2, window_seconds: 60 }] };
const limiter = () => new Ratelimit({ policy: perIp });

async function three(ask) {
  const got = [];
  for (let turn = 0; turn < 3; turn += 1) got.push(await ask());
  return got;
}

function expect(found, wanted, what) {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`);
  }
}

/** Two pass with headers, the third is 429 with Retry-After and problem details. */
async function limits(ask, what) {
  const responses = await three(ask);
  expect(responses.map((response) => response.status), [200, 200, 429], what);
  expect(responses[0].headers.get("ratelimit"), '"r";r=1;t=30', what);
  expect(responses[2].headers.get("retry-after"), "30", what);
  expect((await responses[2].json())["violated-policies"], ["r"], what);
}

async function serving(listener, use) {
  const server = http.createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const tests = {
  async express() {
    const app = express();
    app.use(forExpress(limiter()));
    app.get("/", (request, response) => response.json({ remaining: request.ratelimit.remaining }));
    await serving(app, (url) => limits(() => fetch(url), "express"));
    const wrong = express();
    wrong.use(forExpress(limiter(), { cost: -1 }));
    wrong.use((error, request, response, next) => response.status(500).send(error.name));
    await serving(wrong, async (url) => expect(await (await fetch(url)).text(), "TypeError", "an error goes to express"));
  },
  async fastify() {
    const app = fastify();
    app.addHook("onRequest", forFastify(limiter()));
    app.get("/", async (request) => ({ remaining: request.ratelimit.remaining }));
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    try {
      await limits(() => fetch(url), "fastify");
    } finally {
      await app.close();
    }
  },
  async "hono"() {
    const app = new Hono();
    app.use("*", forHono(limiter(), { ip: () => "192.0.2.1" }));
    app.get("/", (c) => c.text(String(c.get("ratelimit").remaining)));
    await limits(() => app.request("/"), "hono");
  },
  async "fetch handlers"() {
    const info = { remoteAddr: { hostname: "192.0.2.1" } };
    const handler = forFetch(limiter(), () => new Response("ok"));
    await limits(() => handler(new Request("http://a/"), info), "Deno.serve");
    const bun = forFetch(limiter(), () => Response.json({ frozen: true }));
    await limits(() => bun(new Request("http://a/"), { requestIP: () => ({ address: "192.0.2.1" }) }), "Bun.serve");
    const cloudflare = forFetch((env) => env.LIMITER, () => new Response("ok"));
    const env = { LIMITER: limiter() };
    const from = (address) => Object.assign(new Request("http://a/", { headers: { "cf-connecting-ip": address } }), { cf: {} });
    await limits(() => cloudflare(from("192.0.2.1"), env), "Cloudflare");
    expect((await cloudflare(from("192.0.2.2"), env)).status, 200, "another address");
    const graceful = { type: "graceful", forward: { path: "/lite", headers: { "x-lite": "1" } } };
    const policy = { version: 1, rules: [{ name: "r", scope: "global", rate: 1, window_seconds: 60, strategy: graceful }] };
    const reduced = forFetch(new Ratelimit({ policy }), (request) => new Response(`${new URL(request.url).pathname} ${request.headers.get("x-lite")}`));
    expect(await three(async () => (await reduced(new Request("http://a/full"))).text()).then((texts) => texts.slice(0, 2)), ["/full null", "/lite 1"], "graceful");
  },
  async "hono-rate-limiter 0.5.4, unmodified, with our limiter as its binding"() {
    const app = new Hono();
    const binding = Ratelimit.quota({ rate: 2, window: "1 m" });
    app.use("*", rateLimiter({ binding, keyGenerator: (c) => c.req.header("x-user") ?? "nobody" }));
    app.get("/", (c) => c.text("ok"));
    const ask = (user) => app.request("/", { headers: { "x-user": user } });
    expect((await three(() => ask("alice"))).map((response) => response.status), [200, 200, 429], "statuses");
    expect((await ask("bob")).status, 200, "another user");
  },
  async "@elithrar/workers-hono-rate-limit 0.5.1, unmodified, with our limiter as its binding"() {
    const app = new Hono();
    const binding = Ratelimit.quota({ rate: 2, window: "1 m" });
    app.use("*", (c, next) => rateLimit(binding, (c) => c.req.header("authorization") ?? "")(c, next));
    app.get("/", (c) => c.text(String(rateLimitPassed(c))));
    const ask = (user) => app.request("/", { headers: { authorization: user } });
    expect((await three(() => ask("alice"))).map((response) => response.status), [200, 200, 429], "statuses");
    expect((await ask("bob")).status, 200, "another user");
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n     ${error.stack}`);
  }
}
console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
