// The examples, run as their READMEs say, over the installed package. TIDEGATE_ROOT is the checkout.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { freePort, reached } from "./helpers.mjs";

const here = import.meta.dirname;
cpSync(join(process.env.TIDEGATE_ROOT, "examples"), join(here, "examples"), {
  recursive: true,
  filter: (path) => !path.includes("node_modules"),
});
let failed = 0;
let passed = 0;

function expect(found, wanted, what) {
  const fits = JSON.stringify(found) === JSON.stringify(wanted);
  console.log(`${fits ? "ok  " : "FAIL"} ${what}${fits ? "" : `: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`}`);
  if (fits) passed += 1;
  else failed += 1;
}

/** Runs a server until `use` has ended. */
async function running(program, words, environment, use) {
  const port = await freePort();
  // A group of its own: npm's `deno` starts the real one, and only the group ends with both.
  const env = { ...process.env, ...environment, PORT: String(port) };
  const child = spawn(program, words, { env, stdio: "inherit", detached: true });
  const url = `http://127.0.0.1:${port}`;
  try {
    await reached(port);
    await use(url);
  } finally {
    process.kill(-child.pid);
    await once(child, "exit");
  }
}

async function statuses(ask, count) {
  const found = [];
  for (let turn = 0; turn < count; turn += 1) found.push((await ask()).status);
  return found;
}

await running("node", [join(here, "examples/node-express/server.js")], {}, async (url) => {
  expect(await statuses(() => fetch(`${url}/?user=alice`), 4), [200, 200, 200, 429], "node-express: the fourth of a user");
  expect(await statuses(() => fetch(`${url}/?user=bob`), 1), [200], "node-express: another user");
});

const deno = join(here, "node_modules/.bin/deno");
const main = join(here, "examples/deno/main.js");
for (const [name, words] of [["memory", [main]], ["Deno KV", ["--unstable-kv", main, "--kv"]]]) {
  await running(deno, ["run", "-A", "--no-config", "--node-modules-dir=manual", ...words], { KV_PATH: ":memory:" }, async (url) => {
    const found = await statuses(() => fetch(`${url}/pages/a`), 4);
    expect(found.slice(0, 3).includes(200) && found.at(-1) === 429, true, `deno, ${name}: the fourth of the pages`);
  });
}

const folder = mkdtempSync(join(tmpdir(), "tidegate-example-"));
try {
  await build({
    entryPoints: [join(here, "examples/edge-worker/src/worker.js")],
    bundle: true, format: "esm", conditions: ["workerd", "worker", "browser"], loader: { ".wasm": "copy" },
    external: ["cloudflare:workers"], outfile: join(folder, "worker.js"), logLevel: "warning",
  });
  const wasm = readdirSync(folder).find((name) => name.endsWith(".wasm"));
  const miniflare = new Miniflare({
    modules: [{ type: "ESModule", path: join(folder, "worker.js") }, { type: "CompiledWasm", path: join(folder, wasm) }],
    modulesRoot: folder, compatibilityDate: "2026-05-01", cf: false,
    durableObjects: { LIMITS: { className: "RatelimitObject", useSQLite: true } },
  });
  const ask = (path) => async () => {
    const response = await miniflare.dispatchFetch(`http://localhost${path}`);
    await response.text();
    return response;
  };
  expect(await statuses(ask("/api/search"), 3), [200, 200, 429], "edge-worker: the third search");
  expect(await statuses(ask("/"), 9), [...Array(8).fill(200), 429], "edge-worker: the eleventh in all, the refused not counted");
  await miniflare.dispose();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
