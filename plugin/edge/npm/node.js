// The entry for Node, Deno and Bun: the module is read from the file beside this one.
import { readFileSync } from "node:fs";
import { start } from "./lib/engine.js";

start(readFileSync(new URL("./wasm/tidegate_bg.wasm", import.meta.url)));

export * from "./lib/index.js";
