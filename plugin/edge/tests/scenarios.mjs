// The scenario files, through the package in whatever runtime this is: every decision and every header must be what the
// engine says natively, to the byte.

/** The strategies that only the proxy has. */
const ONLY_IN_THE_PROXY = '"queue"';

/** Runs them all; returns how many requests were compared, and one line for each difference. */
export async function runScenarios(tidegate, scenarios) {
  const differences = [];
  const left = [];
  let compared = 0;
  for (const [name, { policy, requests, observed }] of Object.entries(scenarios)) {
    let nowMs = 0;
    let limiter;
    try {
      limiter = new tidegate.Ratelimit({ policy, now: () => nowMs });
    } catch (error) {
      if (!policy.includes(ONLY_IN_THE_PROXY)) differences.push(`${name}: ${error.message}`);
      else left.push(name);
      continue;
    }
    let at = 0;
    for (const { now_us, times, method, path, headers, peer, metadata } of requests) {
      nowMs = now_us / 1_000;
      const request = { method, path: asBytes(path), headers: headers.map(([name, value]) => [name, asBytes(value)]) };
      for (let time = 0; time < times; time += 1, at += 1) {
        const ip = peer === "" ? undefined : peer;
        const decision = await limiter.limit(request, { ...(ip && { ip }), metadata });
        const got = JSON.stringify(told(decision));
        const wanted = JSON.stringify(observed[at]);
        compared += 1;
        if (got !== wanted) differences.push(`${name}, request ${at}:\n  engine  ${wanted}\n  package ${got}`);
      }
    }
  }
  return { compared, differences, left };
}

/** Header values are bytes: in JavaScript each is one character. */
function asBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** What a client and a log see, with the members in the order that the native side writes. */
function told(decision) {
  return {
    body: decision.body,
    headers: decision.headerLines.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)),
    outcome: decision.outcome,
    rule: decision.rule ?? null,
    status: decision.status ?? null,
  };
}
