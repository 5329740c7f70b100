// A request as the engine reads it: one text with its fields separated by NUL. Only the headers that the policy looks at
// are read. Addresses come from the caller, never from a header that a client could have written.
import { checkField, checkGiven, own, shown } from "./arguments.js";

const REQUEST_MEMBERS = "method, path, headers, ip, user";

/** Whether this is a fetch Request: of this realm, or of another that looks the same. */
export function isFetchRequest(value) {
  return (
    typeof Request === "function" &&
    (value instanceof Request ||
      (typeof value.url === "string" && typeof value.method === "string" && typeof value.headers?.get === "function"))
  );
}

/** Path and query of a URL or of a request's target, as they were written. */
export function pathOf(url) {
  // A target is a path in most requests (RFC 9112, section 3.2); one with a scheme is for proxies, and servers take it too.
  const scheme = url.startsWith("/") ? -1 : url.indexOf("://");
  if (scheme < 0) return url;
  const start = url.indexOf("/", scheme + 3);
  const query = url.indexOf("?", scheme + 3);
  if (start < 0 || (query >= 0 && query < start)) return query < 0 ? "/" : `/${url.slice(query)}`;
  const fragment = url.indexOf("#", start);
  return fragment < 0 ? url.slice(start) : url.slice(start, fragment);
}

/**
 * The engine's text of a request. `about` says which headers and metadata matter; `options` may name ip, user, metadata.
 */
export function requestText(subject, options, about) {
  if (subject === null || typeof subject !== "object") {
    throw new TypeError(`limit() takes a key, { key }, a Request or { ${REQUEST_MEMBERS} }, not ${shown(subject)}`);
  }
  const given = (name) => (options && own(options, name)) ?? undefined;
  if (isFetchRequest(subject)) {
    const head = [subject.method, pathOf(subject.url), address(given("ip"))];
    head.push(...metadataFields(given("user"), given("metadata"), about));
    for (const name of about.headers) {
      const value = subject.headers.get(name);
      if (value === null) continue;
      for (const line of lines(name, value)) head.push(name, line);
    }
    return head.join("\0");
  }
  const member = (name) => own(subject, name);
  const path = checkField(member("path"), "path");
  if (!path.startsWith("/") && path !== "*") {
    throw new TypeError(`path must start with "/", not ${shown(member("path"))}`);
  }
  const head = [
    checkField(member("method") ?? "GET", "method"),
    path,
    address(given("ip") ?? member("ip")),
    ...metadataFields(given("user") ?? member("user"), given("metadata") ?? member("metadata"), about),
  ];
  const headers = member("headers");
  if (headers !== undefined && headers !== null) plainHeaders(headers, about, head);
  return head.join("\0");
}

/** The address in the engine's text of a request. */
export function addressIn(text) {
  return text.split("\0", 3)[2];
}

/** An address without the zone that Node shows of a link-local one: it names an interface of this machine, no client. */
function address(ip) {
  const given = checkGiven(ip, "ip");
  const zone = given.indexOf("%");
  return zone > 0 && given.includes(":") ? given.slice(0, zone) : given;
}

/** The lines that Headers has joined to one value: identities count only where a header was sent once. */
function lines(name, value) {
  return name === "cookie" || name === "content-type" || !value.includes(", ") ? [value] : value.split(", ");
}

function plainHeaders(headers, about, fields) {
  const isIterable = typeof headers[Symbol.iterator] === "function";
  for (const [name, values] of isIterable ? headers : Object.entries(headers)) {
    const lower = String(name).toLowerCase();
    if (!about.headerSet.has(lower) || values === undefined || values === null) continue;
    for (const value of Array.isArray(values) ? values : [values]) {
      fields.push(lower, checkField(value, `the header ${lower}`));
    }
  }
}

/** The user that code names comes first, then one field for each of the policy's metadata sources. */
function metadataFields(user, metadata, about) {
  const fields = [checkGiven(user, "user")];
  if (metadata !== undefined && (metadata === null || typeof metadata !== "object")) {
    throw new TypeError(`metadata must be an object of paths and values, not ${shown(metadata)}`);
  }
  for (const path of about.metadata) {
    // As in the proxy: what is no text, or text that no identity can be, is no value.
    const value = metadata === undefined ? undefined : own(metadata, path);
    fields.push(typeof value === "string" && !value.includes("\0") ? value : "");
  }
  return fields;
}
