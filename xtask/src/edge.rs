//! Builds the npm package `tidegate` in `dist/edge/` and packs it; installs the packed file as a user does, and runs its
//! tests in Node, Deno, Bun, workerd and miniflare.
//! Not here: the package's sources and tests (`plugin/edge/`).

mod golden;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use crate::tools::{self, IfMissing, MissingTools};
use crate::{build, wasm_opt, workspace};

/// The target of JavaScript hosts: no WASI, all imports are the package's own.
const TARGET: &str = "wasm32-unknown-unknown";

/// The largest .wasm that may ship, gzipped, in bytes: Workers count their upload so.
const MAX_WASM_GZ: u64 = 120 * 1024;

/// What the compiler and wasm-bindgen may use, and every runtime has.
const FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Builds `dist/edge/package/` and `dist/edge/tidegate.tgz`, and returns the latter's path. Loads what it built once in
/// Node: some versions of wasm-opt break modules silently.
///
/// # Errors
/// When a tool is missing and may not be fetched, a step fails, or the package is larger than its budget.
pub fn build(if_missing: IfMissing) -> Result<PathBuf> {
    tools::ensure_packages(&[tools::NODE], if_missing)?;
    ensure_target(if_missing)?;
    let wasm_opt = wasm_opt::ensure(if_missing)?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--locked", "-p", "tidegate-edge", "--profile", "edge", "--target", TARGET]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", build::reproducible_flags(&workspace::root())?);
    workspace::run(&mut cargo).context("building the engine for JavaScript")?;

    let dist = workspace::dist_dir().join("edge");
    let package = dist.join("package");
    let _ = fs::remove_dir_all(&dist);
    copy(&workspace::root().join("plugin/edge/npm"), &package)?;
    fs::copy(workspace::root().join("LICENSE"), package.join("LICENSE")).context("copying the licence")?;
    bind(&wasm_opt, &package.join("wasm"))?;
    load(&package)?;
    check_size(&package)?;
    golden::check_imports(&package.join("wasm/tidegate_bg.wasm"))?;

    // Packed where nobody looks, until it is known that everything in it is meant.
    let staging = tempfile::tempdir_in(&dist).context("making a folder to pack in")?;
    let mut pack = Command::new("npm");
    pack.current_dir(&package).args(["pack", "--json", "--ignore-scripts", "--loglevel=error", "--pack-destination"]);
    golden::check_files(&workspace::output(pack.arg(staging.path())).context("packing")?)?;
    let packed = only_file(staging.path(), "tgz")?;
    let tarball = dist.join("tidegate.tgz");
    fs::rename(&packed, &tarball).with_context(|| format!("renaming {}", packed.display()))?;
    println!("dist/edge/tidegate.tgz    {} bytes", fs::metadata(&tarball)?.len());
    Ok(tarball)
}

/// Installs the packed package beside the runtimes that `plugin/edge/tests/package-lock.json` pins, and runs every test.
/// False means that one failed; all run in any case.
///
/// # Errors
/// When the package cannot be built or the runtimes cannot be installed.
pub fn test(if_missing: IfMissing) -> Result<bool> {
    tools::ensure_packages(&[tools::REDIS_SERVER], if_missing)?;
    let tarball = build(if_missing)?;
    let mut gateway = workspace::cargo();
    workspace::run(gateway.args(["build", "--quiet", "--locked", "-p", "tidegate-gateway"]))?;
    let tests = workspace::root().join("plugin/edge/tests");
    let folder = workspace::target_dir().join("edge-tests");
    install(&tests, &folder, &tarball, if_missing)?;
    let mut observed = workspace::cargo();
    observed.args(["run", "--quiet", "--locked", "-p", "tidegate-edge", "--example", "observed"]);
    let scenarios = workspace::output(observed.arg(workspace::root().join("host-test/scenarios")))?;
    let file = folder.join("scenarios.json");
    fs::write(&file, scenarios).with_context(|| format!("writing {}", file.display()))?;
    let mut all_passed = true;
    for (name, program, words) in RUNS {
        println!("\n== {name}");
        let program = if program.contains('/') { folder.join(program) } else { PathBuf::from(program) };
        let mut command = Command::new(program);
        command.current_dir(&folder).args(words).env("TIDEGATE_ROOT", workspace::root());
        command.env("TIDEGATE_GATEWAY", workspace::target_dir().join("debug/tidegate-gateway"));
        let status = command.status().with_context(|| format!("starting {}", workspace::line(&command)))?;
        // As cargo says it, so that `cargo xtask test` counts each run.
        let (verdict, failed) = if status.success() { ("ok", 0) } else { ("FAILED", 1) };
        println!("test result: {verdict}. {} passed; {failed} failed", 1 - failed);
        all_passed &= status.success();
    }
    Ok(all_passed)
}

/// Each test run: its name, the program (in the folder of the tests where it has a slash) and its words.
const RUNS: [(&str, &str, &[&str]); 11] = [
    ("Node", "node", &["run.mjs", "scenarios.json"]),
    (
        "Deno",
        "node_modules/.bin/deno",
        &["run", "-A", "--no-config", "--node-modules-dir=manual", "run.mjs", "scenarios.json"],
    ),
    ("Bun", "node", &["bun.mjs", "run.mjs", "scenarios.json"]),
    (
        "Deno KV",
        "node_modules/.bin/deno",
        &["run", "-A", "--no-config", "--unstable-kv", "--node-modules-dir=manual", "deno-kv.mjs"],
    ),
    ("middleware", "node", &["node.mjs"]),
    ("servers", "node", &["servers.mjs"]),
    ("workerd and miniflare", "node", &["workers.mjs", "scenarios.json"]),
    ("Redis through the gateway", "node", &["redis.mjs"]),
    ("types", "node_modules/.bin/tsc", &["--noEmit", "-p", "tsconfig.json"]),
    ("size", "node", &["size.mjs"]),
    ("examples", "node", &["examples.mjs"]),
];

fn ensure_target(if_missing: IfMissing) -> Result<()> {
    let folder = workspace::output(Command::new("rustc").current_dir(workspace::root()).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    if if_missing == IfMissing::Tell {
        let line = format!("Rust's target {TARGET} (the npm package is built for it): rustup target add {TARGET}");
        return Err(MissingTools(vec![line]).into());
    }
    workspace::run(Command::new("rustup").current_dir(workspace::root()).args(["target", "add", TARGET]))
}

/// Writes `tidegate.js` and `tidegate_bg.wasm`.
fn bind(wasm_opt: &Path, folder: &Path) -> Result<()> {
    let built = workspace::target_dir().join(TARGET).join("edge/tidegate_edge.wasm");
    let mut bindgen = Bindgen::new();
    bindgen.input_path(&built).out_name("tidegate").typescript(false);
    bindgen.remove_name_section(true).remove_producers_section(true).reset_state_function(true);
    bindgen.web(true)?.generate(folder).with_context(|| format!("writing JavaScript for {}", built.display()))?;
    let glue = folder.join("tidegate.js");
    let text = fs::read_to_string(&glue).with_context(|| format!("reading {}", glue.display()))?;
    fs::write(&glue, without_waste(&text)).with_context(|| format!("writing {}", glue.display()))?;
    let module = folder.join("tidegate_bg.wasm");
    let smaller = folder.join("smaller.wasm");
    let mut command = Command::new(wasm_opt);
    // Inlining more than the compiler did makes the file smaller and what gzip makes of it larger. Below address 1024
    // there is only the far end of the stack.
    command
        .args(["-Oz", "--low-memory-unused", "--skip-pass=inlining-optimizing"])
        .args(FEATURES)
        .arg(&module)
        .arg("-o")
        .arg(&smaller);
    workspace::run(&mut command).context("optimising the .wasm")?;
    fs::rename(&smaller, &module).with_context(|| format!("moving to {}", module.display()))
}

/// The glue without what is of no use here: doc comments, which are the Rust side's; the guard before each call, which
/// waits for a restart that only Rust code could order; the check for objects of an earlier instance, which the package
/// makes itself, once for many calls; and what is for runtimes older than those that it is for.
fn without_waste(text: &str) -> String {
    const STALE: &str = "if (this.__wbg_inst !== undefined && this.__wbg_inst !== __wbg_instance_id) {";
    const OLD_ENCODER: &str = "if (!('encodeInto' in cachedTextEncoder)) {";
    let mut kept = String::with_capacity(text.len());
    let mut until = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        until = until.or(if trimmed.starts_with("/**") { Some("*/") } else { None });
        until = until.or(if trimmed == STALE || trimmed == OLD_ENCODER { Some("}") } else { None });
        if until.is_none() && trimmed != "__wbg_call_guard();" && !trimmed.starts_with("if (Symbol.dispose)") {
            kept.push_str(line);
            kept.push('\n');
        }
        until = until.filter(|end| !trimmed.ends_with(end));
    }
    kept
}

/// Asks the built package one question in Node.
fn load(package: &Path) -> Result<()> {
    let script = "const { Ratelimit } = await import('./node.js');
        const limiter = Ratelimit.quota({ rate: 1, window: '10 s' });
        const got = [(await limiter.limit('k')).success, (await limiter.limit('k')).success];
        if (String(got) !== 'true,false') throw new Error(`the package answers ${got}`);";
    let mut node = Command::new("node");
    node.current_dir(package).args(["--input-type=module", "-e", script]);
    workspace::run(&mut node).context("loading the built package")
}

fn check_size(package: &Path) -> Result<()> {
    let size = gzipped(&package.join("wasm/tidegate_bg.wasm"))?;
    println!("dist/edge: the .wasm      {size} bytes gzipped, at most {MAX_WASM_GZ}");
    if size > MAX_WASM_GZ {
        bail!("the .wasm in the npm package is larger than its budget; see what grew with `twiggy top`");
    }
    Ok(())
}

/// The size of a file gzipped, as zlib's best level has it.
fn gzipped(file: &Path) -> Result<u64> {
    let script = "const file = require('fs').readFileSync(process.argv[1]);
        console.log(require('zlib').gzipSync(file, { level: 9 }).length);";
    let size = workspace::output(Command::new("node").args(["-e", script]).arg(file))?;
    size.trim().parse().context("reading a size")
}

fn install(tests: &Path, folder: &Path, tarball: &Path, if_missing: IfMissing) -> Result<()> {
    let lock = tests.join("package-lock.json");
    let installed = folder.join("package-lock.json");
    let wanted = fs::read(&lock).with_context(|| format!("reading {}", lock.display()))?;
    let is_there = fs::read(&installed).is_ok_and(|there| there == wanted) && folder.join("node_modules").is_dir();
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let npm = |words: &[&str]| {
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(words).args(["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        workspace::run(&mut npm)
    };
    if !is_there {
        if if_missing == IfMissing::Tell {
            let line =
                "the JavaScript runtimes that the npm package is tested in: cargo xtask test fetches them from npm";
            return Err(MissingTools(vec![line.to_owned()]).into());
        }
        let _ = fs::remove_file(&installed);
        fs::copy(tests.join("package.json"), folder.join("package.json")).context("copying package.json")?;
        fs::copy(&lock, &installed).context("copying package-lock.json")?;
        npm(&["ci"]).context("installing the runtimes")?;
    }
    copy(tests, folder)?;
    let tarball = tarball.to_str().context("the path is no text")?;
    // With the lock in force: without it npm would change what the lock pins.
    npm(&["install", "--no-save", "--prefer-offline", tarball]).context("installing the package")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from).context("a file outside of its folder")?);
        let folder = target.parent().context("the file has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::copy(&file, &target).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}

/// All files below a folder but those of `node_modules`, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if !path.is_dir() {
                found.push(path);
            } else if path.file_name().is_some_and(|name| name != "node_modules") {
                folders.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let mut found = files(folder)?;
    found.retain(|file| file.extension().is_some_and(|kind| kind == extension));
    match found.as_slice() {
        [file] => Ok(file.clone()),
        _ => bail!("{} holds {} .{extension} files", folder.display(), found.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_comments_and_guards_go_and_code_stays() {
        let waste = "if (this.__wbg_inst !== undefined && this.__wbg_inst !== __wbg_instance_id) {\nthrow 1;\n}\n__wbg_call_guard();\n";
        let text =
            ["let a; // b\n/**\n * c\n */\nexport class D {\n    /** e */\n    f() {\n", waste, "    }\n}\n"].concat();
        assert_eq!(without_waste(&text), "let a; // b\nexport class D {\n    f() {\n    }\n}\n");
    }
}
