// The adapter for fetch handlers, in every runtime: what is taken out of a request, what a reduced form changes, and
// headers that a handler has made stricter already.
import { clock, equal, policy, rule } from "./asserts.mjs";

const forward = { path: "//lite?x=1", headers: { "x-lite": "1" } };
const graceful = { type: "graceful", forward, ceiling: 3 };
const info = { remoteAddr: { hostname: "192.0.2.1" } };

export const tests = {
  async "the fetch adapter takes out what clients forge, and gives a request its reduced form"({ Ratelimit }, { forFetch }) {
    const limiter = new Ratelimit({ policy: policy(rule({ scope: "per_ip", rate: 1, strategy: graceful })), now: clock() });
    equal(["X-Tidegate-Degraded", "x_tidegate_any", "x-lite", "X_LITE", "x-lit", "x-tidegat"].map((name) => limiter.reserves(name)), [true, true, true, true, false, false]);
    const handler = forFetch(limiter, async (request) => Response.json([request.url, request.method, await request.text(), Object.fromEntries([...request.headers].filter(([name]) => name.startsWith("x")))]));
    const headers = { "x-tidegate-degraded": "forged", x_tidegate_degraded: "forged", "x-lite": "forged", x_lite: "forged", "x-kept": "1" };
    const ask = async () => (await handler(new Request("http://a/full?y=2", { method: "POST", headers, body: "body" }), info)).json();
    equal(await ask(), ["http://a/full?y=2", "POST", "body", { "x-kept": "1" }], "as it was");
    equal(await ask(), ["http://a//lite?x=1", "POST", "body", { "x-kept": "1", "x-lite": "1", "x-tidegate-degraded": "r" }], "reduced");
    const untouched = new Request("http://a/");
    let seen;
    await forFetch(Ratelimit.quota({ rate: 1, window: 1 }), (request) => ((seen = request), new Response()), { user: "u", ip: "192.0.2.1" })(untouched);
    equal(seen === untouched, true, "a request that nothing is to be done about is the same object");
  },

  async "headers that a handler sends are never made looser"({ Ratelimit }, { forFetch }) {
    const answer = async (own, headers) => {
      const limiter = new Ratelimit({ policy: { ...policy(rule({ scope: "per_ip", rate: 10 })), headers }, now: clock() });
      const response = await forFetch(limiter, () => new Response("ok", { headers: own }))(new Request("http://a/"), info);
      return ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining"].map((name) => response.headers.get(name));
    };
    const lists = { ratelimit: '"own";r=0;t=9', "ratelimit-policy": '"own";q=1;w=9' };
    equal((await answer(lists, "draft11")).slice(0, 2), ['"own";r=0;t=9, "r";r=9;t=6', '"own";q=1;w=9, "r";q=10;w=60']);
    equal((await answer({}, "draft11")).slice(0, 2), ['"r";r=9;t=6', '"r";q=10;w=60']);
    const triple = (remaining) => ({ "x-ratelimit-limit": "3", "x-ratelimit-remaining": remaining, "x-ratelimit-reset": "1" });
    for (const [remaining, left] of [["2", ["3", "2"]], ["9", ["10", "9"]], ["12", ["10", "9"]], ["many", ["10", "9"]]]) {
      equal((await answer(triple(remaining), "legacy")).slice(2), left, remaining);
    }
  },

  async "the fetch adapter holds throttled requests unless it is told not to"({ Ratelimit }, { forFetch }) {
    const strategy = { type: "throttle", max_delay_ms: 5_000 };
    for (const [settings, isHeld] of [[undefined, true], [{ wait: false }, false]]) {
      const limiter = new Ratelimit({ policy: policy(rule({ scope: "per_ip", rate: 2, window_seconds: 1, burst: 1, strategy })) });
      let reached = 0;
      const handler = forFetch(limiter, () => ((reached += 1), new Response("ok")), settings);
      const all = Promise.all(Array.from({ length: 5 }, () => handler(new Request("http://a/"), info)));
      await new Promise((resolve) => setTimeout(resolve, 50));
      equal(reached < 5, isHeld, `after 50 ms ${reached} have reached the handler`);
      equal((await all).map((response) => response.status), Array(5).fill(200));
    }
  },
};
