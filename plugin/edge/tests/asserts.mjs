// What the suite's tests say: two values are equal, something throws, it is this time, a policy has these rules.

export function equal(found, wanted, what = "value") {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what}: expected ${other}, found ${one}`);
}

export async function throws(kind, run, part = "") {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof kind)) throw new Error(`expected ${kind.name}, got ${error}`);
    if (!error.message.includes(part)) throw new Error(`expected ${JSON.stringify(part)} in ${error.message}`);
    return error;
  }
  throw new Error(`expected ${kind.name}, nothing was thrown`);
}

export function clock(nowMs = 1_767_225_600_000) {
  const read = () => read.nowMs;
  read.nowMs = nowMs;
  return read;
}

export const rule = (more) => ({ name: "r", scope: "per_user", rate: 2, window_seconds: 60, ...more });
export const policy = (...rules) => ({ version: 1, rules });
