// The entry for Workers: the bundler and the runtime give the compiled module.
import module from "./wasm/tidegate_bg.wasm";
import { start } from "./lib/engine.js";

start(module);

export * from "./lib/index.js";
