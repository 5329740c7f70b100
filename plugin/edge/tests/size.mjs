// What a Worker uploads of this package beside the .wasm, bundled and minified: at most 14 KB gzipped.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const MOST = 14 * 1024;
const { outputFiles } = await build({
  stdin: { contents: 'export * from "tidegate"; export * from "tidegate/durable-object";', resolveDir: import.meta.dirname },
  bundle: true,
  minify: true,
  format: "esm",
  write: false,
  outdir: "out",
  conditions: ["workerd"],
  external: ["cloudflare:workers", "*.wasm"],
});
const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`JavaScript: ${size} bytes gzipped, at most ${MOST}`);
console.log(size > MOST ? "0 passed, 1 failed" : "1 passed, 0 failed");
process.exit(size > MOST ? 1 : 0);
