// What stores elsewhere refused a moment ago: the same question is refused again without asking, until it could pass or
// the store may have changed its mind: elsewhere a counter can be cleared, and what was charged be given back.
import { readAnswer, readQuestion, writeAnswer } from "./lines.js";

/** More questions than this are not remembered; the oldest goes first. */
const MOST = 10_000;
/** So long a flood of one client's costs no calls, and no longer does an instance miss what others do to a counter. */
const LONGEST_US = 1_000_000;

export class Recent {
  #refused = new Map();

  /** The store's last refusal of this question, as it reads by now; undefined where the store must be asked. */
  answer(question, nowUs) {
    const key = cellsOf(question);
    const known = this.#refused.get(key);
    if (known === undefined) return undefined;
    const elapsed = nowUs - known.at;
    if (elapsed < 0 || elapsed >= known.wait) {
      this.#refused.delete(key);
      return undefined;
    }
    const cells = known.cells.map((cell) => ({
      ...cell,
      waitUs: Math.max(0, cell.waitUs - elapsed),
      resetUs: Math.max(0, cell.resetUs - elapsed),
    }));
    return writeAnswer("refused", cells);
  }

  /** Remembers a refusal until the last of the cells that refused could admit, a second at most. */
  keep(question, answer, nowUs) {
    const { outcome, cells } = readAnswer(answer);
    if (outcome !== "refused") return;
    const asked = readQuestion(question).cells;
    const wait = Math.max(...cells.map((cell, index) => (asked[index].must ? cell.waitUs - asked[index].reachUs : 0)));
    if (!(wait > 0) || !Number.isFinite(wait)) return;
    if (this.#refused.size >= MOST) this.#refused.delete(this.#refused.keys().next().value);
    this.#refused.set(cellsOf(question), { at: nowUs, wait: Math.min(wait, LONGEST_US), cells });
  }

  /** Forgets every refusal: this instance itself has changed a counter. */
  forget() {
    this.#refused.clear();
  }
}

/** The question without its time. */
function cellsOf(question) {
  return question.slice(question.indexOf("\n"));
}
