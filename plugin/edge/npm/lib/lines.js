// The words that a limiter and its store exchange; their meaning is in the engine's remote.rs.

/** A question's time and its cells. */
export function readQuestion(question) {
  const [now, ...lines] = question.split("\n");
  const cells = lines.map((line) => {
    const words = line.split(" ");
    const [rate, windowUs, , horizonUs] = words.slice(2, 6).map(Number);
    return { line, key: words[0], rate, windowUs, must: words[7] === "1", reachUs: words[8] === "1" ? horizonUs : 0 };
  });
  return { nowUs: Number(now), cells };
}

/** The keys of a question's cells. */
export function keysOf(question) {
  return readQuestion(question).cells.map((cell) => cell.key);
}

/** A question about some of the cells. */
export function writeQuestion(nowUs, cells) {
  return [nowUs, ...cells.map((cell) => cell.line)].join("\n");
}

/** An answer's outcome and its cells. */
export function readAnswer(answer) {
  const [outcome, ...lines] = answer.split("\n");
  const cells = lines.map((line) => {
    const [wait, charged, remaining, resetUs, state, keepMs] = line.split(" ");
    const waitUs = wait === "-" ? Infinity : Number(wait);
    return { waitUs, charged: charged === "1", remaining: Number(remaining), resetUs: Number(resetUs), state, keepMs: Number(keepMs) };
  });
  return { outcome, cells };
}

/** An answer of these cells, without what only their store keeps. */
export function writeAnswer(outcome, cells) {
  const lines = cells.map(({ waitUs, charged, remaining, resetUs }) => {
    return `${waitUs === Infinity ? "-" : waitUs} ${charged ? 1 : 0} ${remaining} ${resetUs}`;
  });
  return [outcome, ...lines].join("\n");
}
