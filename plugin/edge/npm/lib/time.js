// Waiting: for a moment, and for an answer that may never come.

/** Ends after `millis`, or fails with the signal's reason. */
export function sleep(millis, signal) {
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

/** What `work` comes to, unless it takes longer than `millis`: then its signal aborts, and a late answer is not looked at. */
export function within(work, millis) {
  const leaving = new AbortController();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      const error = new Error(`the store did not answer within ${millis} ms`);
      reject(error);
      leaving.abort(error);
    }, millis);
  });
  return Promise.race([work(leaving.signal), late]).finally(() => clearTimeout(timer));
}
