// The Worker that the tests run in workerd and miniflare: the suite, the scenarios, and limits kept in Durable Objects.
import * as tidegate from "tidegate";
import { durableObject, Ratelimit } from "tidegate";
import { RatelimitObject } from "tidegate/durable-object";
import { ratelimit as forFetch } from "tidegate/fetch";
import * as queue from "tidegate/queue";
import { memoryBuffer } from "./node_modules/tidegate/lib/engine.js";
import { sleep } from "./node_modules/tidegate/lib/time.js";
import { runScenarios } from "./scenarios.mjs";
import { runSuite } from "./suite.mjs";

/** The same, in a namespace whose storage is of the older kind. */
export class KvObject extends RatelimitObject {}
export { RatelimitObject };

// Made while the Worker loads, where it has no clock and no randomness.
const atLoad = Ratelimit.quota({ rate: 2, window: "1 m" });

const two = (first, second) => ({
  version: 1,
  rules: [
    { name: "user", scope: "per_user", window_seconds: 60, ...first },
    { name: "address", scope: "per_ip", window_seconds: 60, ...second },
  ],
});

const queueing = {
  version: 1,
  rules: [{
    name: "reports", scope: "per_user", rate: 2, window_seconds: 1, algorithm: "leaky_bucket", burst: 4,
    strategy: { type: "queue", cluster: "unused", authority: "unused" },
  }],
};
let reports;
const carriedOut = [];

export default {
  /** The consumer of the queue that `/report` fills. */
  queue: (batch) => queue.carryOut(batch, async (request, job) => {
    const { searchParams } = new URL(request.url);
    carriedOut.push([searchParams.get("n"), await request.text(), Date.now() >= job.dueAt]);
    return new Response();
  }),
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const objects = searchParams.has("kv") ? env.OBJECTS_KV : env.OBJECTS;
    const shards = searchParams.has("shards") ? Number(searchParams.get("shards")) : undefined;
    switch (pathname) {
      case "/suite":
        return Response.json(await runSuite(tidegate, { memoryBuffer, sleep, forFetch, ...queue }));
      case "/scenarios":
        return Response.json(await runScenarios(tidegate, queue, await request.json()));
      case "/at-load":
        return Response.json((await atLoad.limit("k")).success);
      case "/object": {
        const store = durableObject(objects, { shards });
        const limiter = Ratelimit.quota({ rate: 100, window: "1 h", store, onStoreError: "deny", storeTimeoutMs: 30_000 });
        const decision = await limiter.limit(searchParams.get("key"));
        return decision.success ? new Response("ok", { headers: decision.headers }) : decision.response();
      }
      case "/two": {
        const rates = [Number(searchParams.get("user")), Number(searchParams.get("address"))];
        const policy = two({ rate: rates[0] }, { rate: rates[1] });
        const limiter = new Ratelimit({ policy, store: durableObject(objects, { shards }), onStoreError: "deny" });
        const asked = { ip: "192.0.2.1", user: searchParams.get("key") };
        const decisions = [];
        for (let turn = 0; turn < 3; turn += 1) decisions.push(await limiter.limit(request, asked));
        const left = await limiter.explain(request, asked);
        if (searchParams.has("reset")) await limiter.reset(asked.user, { rule: "user" });
        const again = await limiter.explain(asked.user, { rule: "user" });
        return Response.json({ again: again[0].remaining, successes: decisions.map((one) => one.success), left: left.map((one) => one.remaining), rule: decisions[2].rule });
      }
      case "/report": {
        reports ??= new Ratelimit({ policy: queueing, queue: queue.queueTo(env.JOBS) });
        const decision = await reports.limit(request, { user: "u" });
        return decision.success ? new Response("done") : decision.response();
      }
      case "/reported":
        return Response.json(carriedOut);
      default:
        return new Response("not found", { status: 404 });
    }
  },
};
