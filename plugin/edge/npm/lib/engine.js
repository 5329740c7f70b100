// The one WebAssembly instance: starting it, and starting it anew after a panic, which ends an instance for everybody.
import { __wbg_reset_state, initSync } from "../wasm/tidegate.js";

let exports;
/** Changes when the engine was started anew: whatever was made before is gone then. */
export let generation = 0;
let told = false;

/** Starts the engine from bytes or a compiled module. */
export function start(module) {
  exports ??= initSync({ module });
}

/** The instance's memory as bytes; to be asked for again when it has grown. */
export function memoryBuffer() {
  return exports.memory.buffer;
}

/** Starts the engine anew after `error`, unless somebody else already has since `seen`. Says so once. */
export function restart(seen, error) {
  if (seen !== generation) return;
  generation += 1;
  __wbg_reset_state();
  // Already started, this only tells the new instance.
  exports = initSync();
  if (told) return;
  told = true;
  console.error(
    "tidegate: the engine stopped and was started anew; counters in memory begin afresh. Please report this:",
    error,
  );
}
