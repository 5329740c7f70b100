// What every store elsewhere does in its own atomic step, by the same engine that decides in memory.
import { generation, restart } from "./engine.js";
import { readAnswer } from "./lines.js";
import { refund, settle } from "../wasm/tidegate.js";

const STATE_BYTES = 24;

/** The answer to a question over `stored` cells, and the cells that must be written: index, state, how long it counts. */
export function settleCells(question, stored) {
  const text = guarded(() => settle(question, stored));
  const changed = [];
  readAnswer(text).cells.forEach(({ state, keepMs }, index) => {
    const bytes = bytesOf(state);
    if (!equal(bytes, stored, index * STATE_BYTES)) changed.push({ index, state: bytes, keepMs });
  });
  return { text, changed };
}

/** The cells that must be written to give back what `answer` says was charged. */
export function refundCells(question, answer, stored, nowUs) {
  const states = guarded(() => refund(question, answer, stored, nowUs)).split("\n");
  return states.flatMap((state, index) => (state === "" ? [] : [{ index, state: bytesOf(state) }]));
}

/** Runs it once more after a panic. What the engine says by a text is an error of its caller's. */
export function guarded(use) {
  const seen = generation;
  try {
    return use();
  } catch (error) {
    if (typeof error === "string") throw new Error(error);
    restart(seen, error);
    return use();
  }
}

function bytesOf(hex) {
  return Uint8Array.from({ length: STATE_BYTES }, (_, index) => Number.parseInt(hex.slice(2 * index, 2 * index + 2), 16));
}

function equal(state, stored, offset) {
  return state.every((byte, index) => byte === stored[offset + index]);
}
