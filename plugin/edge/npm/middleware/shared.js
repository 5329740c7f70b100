// What the adapters share: where an address comes from in each runtime, and how options are read.

/** The options that `limit()` takes, from what a middleware was given; each may be a function of `context`. */
export async function limitOptions(settings, context, fallbackIp, request) {
  const options = {};
  for (const name of ["ip", "user", "metadata", "cost"]) {
    const given = settings?.[name];
    const value = typeof given === "function" ? await given(context) : given;
    if (value !== undefined && value !== null) options[name] = value;
  }
  options.ip ??= fallbackIp;
  if (options.ip === undefined) delete options.ip;
  if (settings?.wait === true) {
    options.wait = true;
    // Looked at only where it is needed: Deno warns whoever does.
    if (request?.signal) options.signal = request.signal;
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
