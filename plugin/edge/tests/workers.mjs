// Bundles the Worker as wrangler does (esbuild, the conditions of Workers, the .wasm as a module) and runs it in
// miniflare and in bare workerd. Usage: workers.mjs SCENARIOS.json
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import workerdPackage from "workerd";
import { expect, summary, test } from "./helpers.mjs";

const COMPATIBILITY_DATE = "2026-05-01";
const scenarios = readFileSync(process.argv[2], "utf8");
const folder = mkdtempSync(join(tmpdir(), "tidegate-workers-"));

/** What every runtime of Workers must show; `ask` is its fetch. */
async function everything(runtime, ask) {
  const json = async (path, init) => {
    const response = await ask(path, init);
    if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  await test(`${runtime}: a limiter made while the Worker loads`, async () => {
    expect([await json("/at-load"), await json("/at-load"), await json("/at-load")], [true, true, false], "successes");
  });
  await test(`${runtime}: the suite`, async () => {
    const { lines, failed, passed } = await json("/suite");
    const wrong = lines.filter((line) => line.startsWith("FAIL"));
    if (failed > 0 || passed === 0) throw new Error(wrong.join("\n"));
    console.log(`     ${passed} tests`);
  });
  await test(`${runtime}: the scenarios, to the byte`, async () => {
    const { compared, differences } = await json("/scenarios", { method: "POST", body: scenarios });
    if (differences.length > 0 || compared === 0) throw new Error(`${compared} compared\n${differences.slice(0, 10).join("\n")}`);
    console.log(`     ${compared} decisions`);
  });
  for (const [kind, query] of [["SQLite", ""], ["SQLite, 4 shards", "&shards=4"], ["key-value storage", "&kv"]]) {
    const key = kind.replaceAll(/\W/g, "");
    await test(`${runtime}: 300 at once on one Durable Object with a limit of 100 (${kind})`, async () => {
      const statuses = await Promise.all(Array.from({ length: 300 }, async () => {
        const response = await ask(`/object?key=${key}${query}`);
        // Read at once: undici ends a body that nobody has begun to read when it collects garbage.
        await response.text();
        return response.status;
      }));
      expect([200, 429].map((status) => statuses.filter((one) => one === status).length), [100, 200], "200s and 429s");
    });
    await test(`${runtime}: what one object refuses, the other does not keep (${kind})`, async () => {
      const scarceUser = await json(`/two?user=1&address=50&key=a${key}${query}`);
      expect([scarceUser.successes, scarceUser.rule], [[true, false, false], "user"], "the user's limit refuses");
      expect([scarceUser.left, scarceUser.again], [[0, 49], 0], "what is left");
      expect((await json(`/two?user=1&address=50&key=a${key}${query}&reset`)).again, 1, "after a reset");
      const scarceAddress = await json(`/two?user=40&address=2&key=b${key}${query}`);
      expect([scarceAddress.successes, scarceAddress.rule], [[true, true, false], "address"], "the address's limit refuses");
      expect(scarceAddress.left, [38, 0], "what is left");
    });
  }
}

async function inMiniflare(modules) {
  const miniflare = new Miniflare({
    modules,
    modulesRoot: folder,
    compatibilityDate: COMPATIBILITY_DATE,
    cf: false,
    queueProducers: { JOBS: "jobs" },
    queueConsumers: { jobs: { maxBatchSize: 10, maxBatchTimeout: 0.05 } },
    durableObjects: { OBJECTS: { className: "RatelimitObject", useSQLite: true }, OBJECTS_KV: { className: "KvObject", useSQLite: false } },
  });
  try {
    const ask = (path, init) => miniflare.dispatchFetch(`http://localhost${path}`, init);
    await everything("miniflare", ask);
    await test("miniflare: a Cloudflare queue carries out what a rule has queued, whole and not before its time", async () => {
      const statuses = [];
      for (let n = 0; n < 4; n += 1) statuses.push((await ask(`/report?n=${n}`, { method: "POST", body: `body-${n}` })).status);
      expect(statuses, [200, 202, 202, 202], "statuses");
      let carriedOut = [];
      for (let turn = 0; turn < 100 && carriedOut.length < 3; turn += 1) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        carriedOut = await (await ask("/reported")).json();
      }
      const wanted = [1, 2, 3].map((n) => [String(n), `body-${n}`, true]);
      expect(carriedOut.sort(), wanted, "what was carried out");
    });
  } finally {
    await miniflare.dispose();
  }
}

async function inWorkerd(wasm) {
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), (name = "objects", disk = (path = "objects", writable = true))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]
);
const main :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js"), (name = "${wasm}", wasm = embed "${wasm}")],
  compatibilityDate = "${COMPATIBILITY_DATE}",
  durableObjectNamespaces = [
    (className = "RatelimitObject", uniqueKey = "sqlite", enableSql = true),
    (className = "KvObject", uniqueKey = "kv"),
  ],
  durableObjectStorage = (localDisk = "objects"),
  bindings = [
    (name = "OBJECTS", durableObjectNamespace = "RatelimitObject"),
    (name = "OBJECTS_KV", durableObjectNamespace = "KvObject"),
  ],
);
`;
  writeFileSync(join(folder, "config.capnp"), config);
  mkdirSync(join(folder, "objects"));
  const workerd = spawn(workerdPackage.default ?? workerdPackage, ["serve", "--control-fd=3", "config.capnp"], { cwd: folder, stdio: ["ignore", "inherit", "inherit", "pipe"] });
  try {
    let told = "";
    for await (const chunk of workerd.stdio[3]) {
      told += chunk;
      if (told.includes("\n")) break;
    }
    const { port } = JSON.parse(told.split("\n")[0]);
    await everything("workerd", (path, init) => fetch(`http://127.0.0.1:${port}${path}`, init));
  } finally {
    workerd.kill();
    await once(workerd, "exit");
  }
}

try {
  await build({
    entryPoints: [join(import.meta.dirname, "worker.mjs")],
    bundle: true,
    format: "esm",
    conditions: ["workerd", "worker", "browser"],
    loader: { ".wasm": "copy" },
    external: ["cloudflare:workers"],
    outfile: join(folder, "worker.js"),
    logLevel: "warning",
  });
  const wasm = readdirSync(folder).find((name) => name.endsWith(".wasm"));
  const modules = [{ type: "ESModule", path: join(folder, "worker.js") }, { type: "CompiledWasm", path: join(folder, wasm) }];
  await inMiniflare(modules);
  await inWorkerd(wasm);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
summary();
