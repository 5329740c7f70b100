// Starts Bun as its package brings it: the package's own command needs a postinstall script, the program does not.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dirname, "node_modules/@oven");
const programs = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name, "bin/bun")) : [];
const program = programs.find((file) => existsSync(file));
if (program === undefined) {
  console.log("SKIPPED: Bun has no program for this machine");
  process.exit(process.env.CI === "true" ? 1 : 0);
}
process.exit(spawnSync(program, ["run", ...process.argv.slice(2)], { stdio: "inherit" }).status ?? 1);
