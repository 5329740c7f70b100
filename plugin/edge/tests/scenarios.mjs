// The scenario files, through the package in whatever runtime this is: every decision and every header must be what the
// engine says natively, to the byte.

/** Runs them all; returns how many requests were compared, and one line for each difference. */
export async function runScenarios(tidegate, { queueTo }, scenarios) {
  const differences = [];
  let compared = 0;
  for (const [name, { policy, requests, observed }] of Object.entries(scenarios)) {
    let nowMs = 0;
    const queue = queueTo(async () => {});
    const limiter = new tidegate.Ratelimit({ policy, queue, now: () => nowMs });
    let at = 0;
    for (const { now_us, times, method, path, headers, peer, metadata } of requests) {
      nowMs = now_us / 1_000;
      const request = { method, path: asBytes(path), headers: headers.map(([name, value]) => [name, asBytes(value)]) };
      for (let time = 0; time < times; time += 1, at += 1) {
        const ip = peer === "" ? undefined : peer;
        const decision = await limiter.limit(request, { ...(ip && { ip }), metadata });
        const got = JSON.stringify(told(decision));
        const wanted = JSON.stringify(decision.outcome === "queued" ? accepted(observed[at]) : observed[at]);
        compared += 1;
        if (got !== wanted) differences.push(`${name}, request ${at}:\n  engine  ${wanted}\n  package ${got}`);
      }
    }
  }
  return { compared, differences };
}

/** Header values are bytes: in JavaScript each is one character. */
function asBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** The engine says that a request is queued; what the client is told then is made where its job is kept. */
function accepted({ headers, outcome, rule }) {
  return { headers, outcome, rule };
}

/** What a client and a log see, with the members in the order that the native side writes. */
function told(decision) {
  const headers = decision.headerLines.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
  if (decision.outcome === "queued") {
    const own = new Set(["cache-control", "content-type", "retry-after"]);
    return accepted({ ...decision, headers: headers.filter(([name]) => !own.has(name)), outcome: decision.outcome });
  }
  return {
    body: decision.body,
    headers,
    outcome: decision.outcome,
    rule: decision.rule ?? null,
    status: decision.status ?? null,
  };
}
