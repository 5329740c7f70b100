// Waiting: for a moment, and for an answer that may never come.

/** The longest that a timer runs: what is told more fires at once (HTML, "timer initialization steps": 32 bits, signed). */
const LONGEST_MS = 2 ** 31 - 1;

/** Ends after `millis`, however many they are, or fails with the signal's reason. */
export async function sleep(millis, signal) {
  for (let left = millis; ; left -= LONGEST_MS) {
    await nap(Math.min(left, LONGEST_MS), signal);
    if (left <= LONGEST_MS) return;
  }
}

function nap(millis, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, millis);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * What `work` comes to, unless it takes longer than `millis`: then its signal aborts, and a late answer is not looked at;
 * the error is `late` and how long that was.
 * What it throws before it gives a promise is a failure like any other.
 */
export function within(work, millis, late = "the store did not answer") {
  const leaving = new AbortController();
  let timer;
  const tooLong = new Promise((_, reject) => {
    timer = setTimeout(() => {
      const error = new Error(`${late} within ${millis} ms`);
      reject(error);
      leaving.abort(error);
    }, millis);
  });
  const done = new Promise((resolve) => resolve(work(leaving.signal)));
  return Promise.race([done, tooLong]).finally(() => clearTimeout(timer));
}
