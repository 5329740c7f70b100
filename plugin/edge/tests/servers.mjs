// The adapters in front of real servers of Express, Fastify and Hono: what is held, what clients cannot forge, reduced
// forms, clients that leave, and targets as proxies write them.
import { once } from "node:events";
import http from "node:http";
import { connect } from "node:net";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { Ratelimit } from "tidegate";
import { ratelimit as forExpress } from "tidegate/express";
import { ratelimit as forFastify } from "tidegate/fastify";
import { ratelimit as forFetch } from "tidegate/fetch";
import { ratelimit as forHono } from "tidegate/hono";
import { queueTo } from "tidegate/queue";
import { expect, summary, test } from "./helpers.mjs";

const limiterOf = (rule, settings) => new Ratelimit({ policy: { version: 1, rules: [{ name: "r", scope: "per_ip", window_seconds: 1, rate: 1, ...rule }] }, ...settings });
const throttle = (max_delay_ms) => ({ burst: 1, strategy: { type: "throttle", max_delay_ms } });
const graceful = (path) => ({ window_seconds: 3_600, strategy: { type: "graceful", ceiling: 5, forward: { headers: { "x-lite": "1" }, ...(path && { path }) } } });
const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

async function listening(server, use) {
  if (!server.listening) await once(server.listen(0, "127.0.0.1"), "listening");
  try {
    return await use(server.address().port);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** What a handler can see of a request's headers that matters here, wherever it looks. */
function seen({ headers, rawHeaders, headersDistinct }) {
  const raw = rawHeaders.filter((_, index) => index % 2 === 0);
  const names = [...Object.keys(headers), ...raw, ...Object.keys(headersDistinct)].map((name) => name.toLowerCase());
  return { names: [...new Set(names)].filter((name) => /^x[-_](tidegate|lite|kept)/.test(name)).sort(), lite: headers["x-lite"], mark: headers["x-tidegate-degraded"] };
}

/** Serves with each framework; `use` gets the port. The handler answers what it sees, and its path. */
const servers = {
  async express(limiter, settings, use) {
    const app = express();
    app.use(forExpress(limiter, settings));
    app.use((request, response) => response.json({ path: request.path, query: request.query, delayMs: request.ratelimit.delayMs, ...seen(request) }));
    await listening(http.createServer(app), use);
  },
  async fastify(limiter, settings, use) {
    const app = fastify();
    app.addHook("onRequest", forFastify(limiter, settings));
    app.all("/*", async (request) => ({ path: request.url, delayMs: request.ratelimit.delayMs, ...seen(request.raw), lite: request.headers["x-lite"] }));
    await app.listen({ port: 0, host: "127.0.0.1" });
    await listening(app.server, use);
    await app.close();
  },
};

/** The answer to a request line and header lines, byte for byte as they are written; `body` where there is one. */
async function sent(port, lines, body = "") {
  const socket = connect(port, "127.0.0.1");
  socket.end(`${lines.join("\r\n")}\r\nhost: a\r\nconnection: close\r\n\r\n${body}`);
  let text = "";
  for await (const chunk of socket) text += chunk;
  const status = Number(text.split(" ")[1]);
  return { status, json: status === 200 ? JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1)) : undefined };
}

const FORGED = ["X-Tidegate-Degraded: forged", "x_tidegate_degraded: forged", "X-Lite: forged", "x_lite: forged", "x-kept: 1"];

for (const [name, serving] of Object.entries(servers)) {
  await test(`${name}: throttled requests are held until their moment, unless it is told not to`, async () => {
    for (const [settings, isHeld] of [[undefined, true], [{ wait: false }, false]]) {
      await serving(limiterOf({ rate: 2, ...throttle(5_000) }), settings, async (port) => {
        const started = performance.now();
        const took = await Promise.all(Array.from({ length: 5 }, async () => {
          const { delayMs } = await (await fetch(`http://127.0.0.1:${port}/`)).json();
          return performance.now() - started - (isHeld ? delayMs : 0);
        }));
        // The fifth of two a second goes on after two seconds.
        const last = performance.now() - started;
        expect([last >= 1_900, took.every((millis) => millis > -50)], [isHeld, true], `the last came after ${last} ms`);
      });
    }
  });

  await test(`${name}: a client that leaves gives its place back, and breaks nothing`, async () => {
    const limiter = limiterOf({ ...throttle(60_000), window_seconds: 10 });
    await serving(limiter, undefined, async (port) => {
      await fetch(`http://127.0.0.1:${port}/`);
      const leaving = new AbortController();
      const left = fetch(`http://127.0.0.1:${port}/`, { signal: leaving.signal }).catch((error) => error.name);
      while (limiter.metrics().waiting === 0) await pause(10);
      leaving.abort();
      expect(await left, "AbortError", "the one that left");
      for (let turn = 0; limiter.metrics().waiting > 0; turn += 1) {
        if (turn === 100) throw new Error("it keeps its place");
        await pause(10);
      }
      const { delayMs } = await limiter.limit({ path: "/", ip: "127.0.0.1" });
      expect(delayMs > 5_000 && delayMs <= 10_000, true, `the next waits ${delayMs} ms`);
    });
  });

  await test(`${name}: what clients forge is taken out in every spelling; a reduced form sets it`, async () => {
    await serving(limiterOf(graceful()), undefined, async (port) => {
      const { json: plain } = await sent(port, ["GET /full?y=2 HTTP/1.1", ...FORGED]);
      expect([plain.names, plain.lite, plain.mark], [["x-kept"], undefined, undefined], "as it was");
      const { json: reduced } = await sent(port, ["GET /full?y=2 HTTP/1.1", ...FORGED]);
      expect([reduced.names, reduced.lite, reduced.mark], [["x-kept", "x-lite", "x-tidegate-degraded"], "1", "r"], "reduced");
    });
  });

  await test(`${name}: a queued request has its body, whole, and is 413 where it is too long`, async () => {
    const jobs = [];
    const strategy = { type: "queue", cluster: "unused", authority: "unused", allow_unverified: true, max_body_bytes: 100_000, max_wait_seconds: 600 };
    const errors = [];
    const limiter = limiterOf({ window_seconds: 60, strategy }, { queue: queueTo(async (job) => void jobs.push(job)), onError: (error) => errors.push(error.message) });
    await serving(limiter, undefined, async (port) => {
      const post = async (body) => (await fetch(`http://127.0.0.1:${port}/work`, { method: "POST", body, duplex: "half" })).status;
      const long = Uint8Array.from({ length: 100_000 }, (_, index) => index % 251);
      const pieces = new ReadableStream({
        async start(to) {
          for (let at = 0; at < long.length; at += 33_333) {
            to.enqueue(long.subarray(at, at + 33_333));
            await pause(5);
          }
          to.close();
        },
      });
      expect([await post("first"), await post("second"), await post(pieces), await post(undefined)], [200, 202, 202, 202], "statuses");
      expect([await post(new Uint8Array(100_001)), await post("again")], [413, 202], "too long, and one after it");
      expect(jobs.map((job) => atob(job.body).length), [6, 100_000, 0, 5], "bodies");
      expect(Uint8Array.from(atob(jobs[1].body), (letter) => letter.charCodeAt(0)).every((byte, index) => byte === index % 251), true, "byte for byte");
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write("POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf");
      await pause(100);
      socket.destroy();
      while (errors.length === 0) await pause(10);
      expect([errors, jobs.length, limiter.metrics().waiting], [["the client left before its body was whole"], 4, 4], "who leaves gives its place back");
    });
  });

  await test(`${name}: a target with scheme and host counts as its path`, async () => {
    await serving(limiterOf({ rate: 2, window_seconds: 60, endpoints: ["/full"] }), undefined, async (port) => {
      const statuses = [];
      for (const target of ["http://a/full", "/full?u=http://b/c", "HTTP://a/full?x", "http://a/other", "/?u=http://a/full"]) {
        statuses.push((await sent(port, [`GET ${target} HTTP/1.1`])).status);
      }
      expect(statuses, [200, 200, 429, 200, 200], "statuses");
    });
  });
}

await test("express: what a parser has read cannot be queued, and says so", async () => {
  const errors = [];
  const strategy = { type: "queue", cluster: "unused", authority: "unused", allow_unverified: true };
  const limiter = limiterOf({ window_seconds: 60, strategy }, { queue: queueTo(async () => {}), onError: (error) => errors.push(error.message) });
  const app = express();
  app.use(express.json(), forExpress(limiter), (request, response) => response.end());
  await listening(http.createServer(app), async (port) => {
    const post = async () => (await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "{}", headers: { "content-type": "application/json" } })).status;
    expect([await post(), await post()], [200, 429], "statuses");
    expect(errors, ["a request that may be queued must not have been read: limit before a parser of bodies"], "told");
  });
});

await test("node: trailers cannot say it either", async () => {
  const limit = forExpress(limiterOf({ rate: 5 }));
  const server = http.createServer((request, response) => limit(request, response, async () => {
    for await (const _ of request);
    response.end(JSON.stringify({ trailers: request.trailers, raw: request.rawTrailers }));
  }));
  await listening(server, async (port) => {
    const body = "1\r\nx\r\n0\r\nX-Tidegate-Degraded: forged\r\nx-kept: 1\r\n\r\n";
    const { json } = await sent(port, ["POST / HTTP/1.1", "transfer-encoding: chunked"], body);
    expect(json, { trailers: { "x-kept": "1" }, raw: ["x-kept", "1"] }, "trailers");
  });
});

await test("express: a reduced form has its own path and query, also where the middleware is mounted at a path", async () => {
  await servers.express(limiterOf(graceful("/lite?x=1")), undefined, async (port) => {
    await sent(port, ["GET /full?y=2 HTTP/1.1"]);
    const { json } = await sent(port, ["GET /full?y=2 HTTP/1.1"]);
    expect([json.path, json.query, json.mark], ["/lite", { x: "1" }, "r"], "reduced");
  });
  for (const [mounted, path, wanted] of [["/API", "/api/lite", "/API/lite"], ["/api", "/api", "/api/"], ["/api", "/lite", 500], ["/api", "/apis", 500]]) {
    const app = express();
    app.use("/api", forExpress(limiterOf(graceful(path))));
    app.use((request, response) => response.json({ path: request.url }));
    app.use((error, request, response, next) => response.status(500).end(error.message));
    await listening(http.createServer(app), async (port) => {
      await sent(port, [`GET ${mounted}/full HTTP/1.1`]);
      const { status, json } = await sent(port, [`GET ${mounted}/full HTTP/1.1`]);
      expect(json?.path ?? status, wanted, `${path} at ${mounted}`);
    });
  }
});

await test("fastify, hono: a policy that forwards to another path is refused when the adapter is made", async () => {
  const limiter = limiterOf(graceful("/lite"));
  for (const make of [() => forFastify(limiter), () => forHono(limiter)]) {
    let error;
    try { make(); } catch (thrown) { error = thrown; }
    expect([error?.name, /the rule "r" forwards limited requests to another path/.test(error?.message)], ["TypeError", true], error?.message);
  }
  const app = new Hono().use("*", forHono(() => limiter)).onError((error, c) => c.text(error.name, 500));
  expect(await (await app.request("/")).text(), "TypeError", "a limiter that is made later");
});

await test("fastify: tidegate/express before it gives requests another path, as the README shows", async () => {
  const limit = forExpress(limiterOf(graceful("/lite")));
  const app = fastify({ serverFactory: (handler) => http.createServer((request, response) => limit(request, response, (error) => (error ? response.writeHead(500).end() : handler(request, response)))) });
  app.get("/full", async () => ({ path: "/full" }));
  app.get("/lite", async (request) => ({ path: "/lite", lite: request.headers["x-lite"] }));
  await app.listen({ port: 0, host: "127.0.0.1" });
  await listening(app.server, async (port) => {
    const answers = [await sent(port, ["GET /full HTTP/1.1"]), await sent(port, ["GET /full HTTP/1.1"])];
    expect(answers.map(({ json }) => json), [{ path: "/full" }, { path: "/lite", lite: "1" }], "paths");
  });
  await app.close();
});

await test("hono: held, nothing forged, reduced by headers, and by path with tidegate/fetch around it", async () => {
  const show = (c) => c.json([new URL(c.req.url).pathname, ["x-tidegate-degraded", "x_lite", "x-lite", "x-kept"].map((name) => c.req.header(name) ?? null)]);
  const headers = { "x-tidegate-degraded": "forged", x_lite: "forged", "x-lite": "forged", "x-kept": "1" };
  const twice = async (fetching) => [await (await fetching()).json(), await (await fetching()).json()];
  const reducing = new Hono().use("*", forHono(limiterOf(graceful()), { ip: "192.0.2.1" })).get("/full", show);
  expect(await twice(() => reducing.request("/full", { headers })), [["/full", [null, null, null, "1"]], ["/full", ["r", null, "1", "1"]]], "headers");
  const app = new Hono().get("/full", show).get("/lite", show);
  const around = forFetch(limiterOf(graceful("/lite")), app.fetch, { ip: "192.0.2.1" });
  expect(await twice(() => around(new Request("http://a/full", { headers }))), [["/full", [null, null, null, "1"]], ["/lite", ["r", null, "1", "1"]]], "path");
  for (const [wait, isHeld] of [[undefined, true], [false, false]]) {
    const holding = new Hono().use("*", forHono(limiterOf({ rate: 2, ...throttle(5_000) }), { ip: "192.0.2.1", wait })).get("/", (c) => c.text("ok"));
    const started = performance.now();
    const responses = await Promise.all(Array.from({ length: 4 }, () => holding.request("/")));
    const took = performance.now() - started;
    expect([responses.every((response) => response.status === 200), took >= 1_400], [true, isHeld], `took ${took} ms`);
  }
});

await test("hono: a refusal has its decision too, what still runs goes to waitUntil, and headers are never made looser", async () => {
  const limiter = limiterOf({ window_seconds: 60 });
  const decisions = [];
  const app = new Hono();
  app.use("*", async (c, next) => (await next(), void decisions.push(c.get("ratelimit").success)));
  app.use("*", forHono(limiter, { ip: "192.0.2.1" }));
  app.get("/", (c) => c.text("ok", 200, { ratelimit: '"own";r=0;t=9' }));
  const [first, second] = [await app.request("/"), await app.request("/")];
  expect([first.status, second.status, decisions], [200, 429, [true, false]], "decisions");
  expect(first.headers.get("ratelimit"), '"own";r=0;t=9, "r";r=0;t=60', "headers");

  let ended = false;
  const store = { acquire: async () => ({ answer: "granted\n0 1 1 60000000", pending: pause(30).then(() => (ended = true)) }) };
  const elsewhere = Ratelimit.quota({ rate: 2, window: 60, store });
  const pending = [];
  const waiting = new Hono().use("*", forHono({ limit: () => elsewhere.limit("k"), reserves: () => false })).get("/", (c) => c.text("ok"));
  await waiting.request("/", {}, {}, { waitUntil: (promise) => pending.push(promise), passThroughOnException() {} });
  await Promise.all(pending);
  expect([pending.length, ended], [1, true], "what still runs");
  expect((await waiting.request("/")).status, 200, "where there is no such context");
});

summary();
