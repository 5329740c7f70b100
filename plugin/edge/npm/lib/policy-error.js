/** A policy that says something wrong: every mistake at once. */
export class PolicyError extends Error {
  constructor(json) {
    const { mistakes, left_off } = JSON.parse(json);
    const more = left_off > 0 ? `\n... and ${left_off} more` : "";
    super(mistakes.map((mistake) => mistake.message).join("\n") + more);
    this.name = "PolicyError";
    this.mistakes = mistakes;
  }
}
