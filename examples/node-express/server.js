// An Express server under a policy file: the same file gives the same decisions in Envoy.
import { readFileSync } from "node:fs";
import express from "express";
import { Ratelimit } from "tidegate";
import { ratelimit } from "tidegate/express";

const policy = readFileSync(new URL("policy.json", import.meta.url), "utf8");
const limiter = new Ratelimit({ policy });

const app = express();
// Who the user is, your own authentication decides; here it is who the query says, to have something to try.
app.use(ratelimit(limiter, { user: (request) => request.query.user }));
app.get("/", (request, response) => response.json({ left: request.ratelimit.remaining }));
app.get("/metrics", (request, response) => response.json(limiter.metrics()));

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
