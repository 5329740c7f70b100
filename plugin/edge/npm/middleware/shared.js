// What the adapters share: where an address comes from in each runtime, how options are read, and what is changed about
// a request that goes on and about its response.

/**
 * The options that `limit()` takes, from what a middleware was given; each may be a function of `context`. A throttled
 * request is held unless the settings say `wait: false`; `signalOf` gives the signal that aborts when its client leaves.
 */
export async function limitOptions(settings, context, fallbackIp, signalOf) {
  const options = {};
  for (const name of ["ip", "user", "metadata", "cost"]) {
    const given = settings?.[name];
    const value = typeof given === "function" ? await given(context) : given;
    if (value !== undefined && value !== null) options[name] = value;
  }
  options.ip ??= fallbackIp;
  if (options.ip === undefined) delete options.ip;
  if (settings?.wait !== false) {
    options.wait = true;
    // Made only where a request is held: Deno warns whoever looks at a request's signal.
    Object.defineProperty(options, "signal", { get: signalOf, enumerable: true });
  }
  return options;
}

/**
 * The client's address as the runtime itself knows it. On Cloudflare it stands in a header that Cloudflare sets, which is
 * read only where the runtime says that the request came through Cloudflare.
 */
export function addressOf(request, info) {
  if (request.cf !== undefined) return request.headers.get("cf-connecting-ip") ?? undefined;
  if (typeof info?.remoteAddr?.hostname === "string") return info.remoteAddr.hostname;
  if (typeof info?.requestIP === "function") return info.requestIP(request)?.address;
  return info?.incoming?.socket?.remoteAddress;
}

/** A decision's headers for servers that take a list where a name has several lines. */
export function linesByName(decision) {
  const byName = new Map();
  for (const [name, value] of decision.headerLines) byName.set(name, [...(byName.get(name) ?? []), value]);
  return Object.fromEntries([...byName].map(([name, values]) => [name, values.length === 1 ? values[0] : values]));
}

/**
 * The fetch Request as it goes on: without what only Tidegate may say, in any spelling, and in the reduced form where the
 * decision asks for one. The same object where nothing changes.
 */
export function passedOn(request, limiter, degraded) {
  const forged = [...request.headers.keys()].filter((name) => limiter.reserves(name));
  if (forged.length === 0 && degraded === undefined) return request;
  const headers = new Headers(request.headers);
  for (const name of forged) headers.delete(name);
  for (const [name, value] of Object.entries(degraded?.headers ?? {})) headers.set(name, value);
  const changed = new Request(request, { headers });
  // Not resolved against the request's address: a path that starts with "//" would be another host.
  return degraded?.path === undefined ? changed : new Request(new URL(request.url).origin + degraded.path, changed);
}

/**
 * The headers to set on a response that says `own` (its Headers), never looser than what it says itself: members of lists
 * follow its own; of the X-RateLimit-* triple, which holds one limit, the one with less remaining stays.
 */
export function headersBeside(decision, own) {
  const ours = Object.entries(decision.headers);
  const remaining = /^\d+$/.exec(own.get("x-ratelimit-remaining")?.trim() ?? "");
  const isStricter = remaining !== null && Number(remaining[0]) < Number(decision.headers["x-ratelimit-remaining"]);
  const isOfTriple = (name) => name.startsWith("x-ratelimit-");
  return ours
    .filter(([name]) => !(isStricter && isOfTriple(name)))
    .map(([name, value]) => [name, isOfTriple(name) || !own.has(name) ? value : `${own.get(name)}, ${value}`]);
}

/** Throws where a rule forwards to another path and the framework has chosen its route before any middleware runs. */
export function refusePaths(limiter, framework, instead) {
  if (limiter.changesPath === undefined) return;
  throw new TypeError(
    `the rule "${limiter.changesPath}" forwards limited requests to another path (graceful, forward.path), which no middleware of ${framework} can: ${instead}; or leave "path" out and let the handler look at the headers`,
  );
}
