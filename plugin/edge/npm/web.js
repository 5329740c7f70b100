// The entry for everything else: the module is fetched from beside this file.
import { start } from "./lib/engine.js";

const response = await fetch(new URL("./wasm/tidegate_bg.wasm", import.meta.url));
if (!response.ok) throw new Error(`tidegate: the .wasm could not be loaded (status ${response.status})`);
start(await response.arrayBuffer());

export * from "./lib/index.js";
