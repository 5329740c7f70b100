// What the adapters of Node's own requests share: such a request as it was received, what is taken out of it or set
// before it goes on, and whether its client has left.
import { Buffer } from "node:buffer";
import { pathOf } from "../lib/request.js";
import { within } from "../lib/time.js";

/** As long as the proxy waits for the whole body of a request that it queues. */
const BODY_MS = 30_000;

/** The request as it was received: `rawHeaders` keeps repeated lines apart. Its body is read if it is to be queued. */
export function described(request, target) {
  const { method, rawHeaders } = request;
  const headers = [];
  for (let index = 0; index < rawHeaders.length; index += 2) headers.push([rawHeaders[index], rawHeaders[index + 1]]);
  return { method, path: pathOf(target), headers, body: (most) => bodyOf(request, most) };
}

/** The body's bytes; undefined where there are more than `most`: what comes after them is dropped. */
async function bodyOf(request, most) {
  if (request.readableDidRead) {
    throw new Error("a request that may be queued must not have been read: limit before a parser of bodies");
  }
  const chunks = [];
  let size = 0;
  const read = () =>
    new Promise((resolve, reject) => {
      request.once("end", () => resolve(true)).once("close", () => reject(new Error("the client left before its body was whole")));
      request.on("data", (chunk) => {
        size += chunk.length;
        if (size <= most) chunks.push(chunk);
        else resolve(false);
      });
    });
  const isWhole = await within(read, BODY_MS, "the body was not whole");
  return isWhole ? Buffer.concat(chunks) : undefined;
}

/** Takes out what only Tidegate may say, in any spelling: of the headers now, of the trailers when they have come. */
export function withoutForged(request, limiter) {
  takeOut(request, limiter, "headers", "headersDistinct", "rawHeaders");
  request.prependOnceListener("end", () => takeOut(request, limiter, "trailers", "trailersDistinct", "rawTrailers"));
}

/** Node has the lines three times: joined, as lists, and raw; the first two are made of the third when they are read. */
function takeOut(request, limiter, joined, distinct, raw) {
  const lines = request[raw] ?? [];
  const isForged = (_, index) => limiter.reserves(lines[index - (index % 2)]);
  const forged = lines.filter((name, index) => index % 2 === 0 && isForged(name, index));
  if (forged.length === 0) return;
  for (const made of [request[joined], request[distinct]]) {
    for (const name of forged) delete made?.[name.toLowerCase()];
  }
  lines.splice(0, lines.length, ...lines.filter((line, index) => !isForged(line, index)));
}

/** Sets the headers of a reduced form. No line of such a name is left: clients' copies were taken out. */
export function withHeaders(request, headers) {
  for (const [name, value] of Object.entries(headers)) {
    request.headers[name] = value;
    if (request.headersDistinct !== undefined) request.headersDistinct[name] = [value];
    request.rawHeaders.push(name, value);
  }
}

/** A signal that aborts when the client leaves before it is answered. A request's own "close" comes when it is read. */
export function leaving(response) {
  const gone = new AbortController();
  if (response.destroyed) gone.abort();
  else response.once("close", () => gone.abort());
  return gone.signal;
}
