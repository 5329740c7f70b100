// Runs the suite and the scenarios in Node, Deno or Bun, over the installed package. Usage: run.mjs SCENARIOS.json
import { readFileSync } from "node:fs";
import process from "node:process";
import * as tidegate from "tidegate";
import { ratelimit as forFetch } from "tidegate/fetch";
import * as queue from "tidegate/queue";
import { memoryBuffer } from "./node_modules/tidegate/lib/engine.js";
import { sleep } from "./node_modules/tidegate/lib/time.js";
import { runScenarios } from "./scenarios.mjs";
import { runSuite } from "./suite.mjs";

const { lines, passed, failed } = await runSuite(tidegate, { memoryBuffer, sleep, forFetch, ...queue });
console.log(lines.join("\n"));
const scenarios = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { compared, differences } = await runScenarios(tidegate, queue, scenarios);
console.log(differences.slice(0, 20).join("\n"));
const count = Object.keys(scenarios).length;
console.log(`${count} scenarios, ${compared} decisions compared, ${differences.length} differ`);
const wrong = failed + (differences.length > 0 || compared === 0 ? 1 : 0);
console.log(`${passed + (wrong > failed ? 0 : 1)} passed, ${wrong} failed`);
process.exit(wrong > 0 ? 1 : 0);
