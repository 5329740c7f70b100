//! The command line of `cargo xtask`: its words, their help, and which function each one calls.
//! Not here: what the commands do.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::demo::{self, DemoArgs};
use crate::tools::IfMissing;
use crate::{bench, build, edge, test, tidy};

/// Builds, tests and demonstrates Tidegate.
///
/// Exit status: 0 done; 1 a check, a test or a step failed; 2 wrong usage, or tools are missing and --no-install was
/// given.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// These comments are the help that people read in a terminal, where backticks say nothing.
#[expect(clippy::doc_markdown)]
#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a real Envoy with the plugin, a policy and a small upstream on loopback, until Ctrl-C.
    ///
    /// Fetches Envoy and builds the plugin first if need be, prints the addresses and three curl lines to try, then
    /// one line a second with what was allowed and what was limited. The file named by TIDEGATE_WASM, if set, is
    /// loaded instead of the freshly built plugin; the program named by TIDEGATE_ENVOY instead of the fetched Envoy.
    Demo(DemoFlags),
    /// Runs every test: units, properties, scenarios, the real Envoy end to end, doc tests and the demo's self-check.
    ///
    /// Sets up what the tests need, builds the plugin, runs all steps even when one fails, and sums up. Lines that
    /// start with `SKIPPED:` are repeated at the end; with CI=true a skip is a failure.
    Test(TestFlags),
    /// Builds dist/tidegate.wasm and dist/policy.schema.json; prints size and SHA-256; fails above 425,984 bytes.
    ///
    /// The same sources and the same toolchain give the same bytes, in whatever folder they lie.
    Build(NoInstall),
    /// Builds the npm package into dist/edge/; with --test installs it as a user does and runs it in Node, Deno, Bun,
    /// workerd and miniflare.
    Edge(EdgeFlags),
    /// Runs the criterion benches of the engine and of the whole request through the .wasm.
    Bench(NoInstall),
    /// Checks what compilers do not: file headers, sizes, panics in shipped code, dependency rules, licences, links
    /// and commands in the documentation, the .wasm's imports.
    Tidy,
}

#[derive(Debug, Args)]
struct EdgeFlags {
    /// Run its tests as well.
    #[arg(long)]
    test: bool,
    #[command(flatten)]
    no_install: NoInstall,
}

#[expect(clippy::doc_markdown)]
#[derive(Debug, Args)]
struct DemoFlags {
    /// Send traffic, expect 200s with RateLimit headers and then a 429 with Retry-After, print what came, and end.
    #[arg(long)]
    check: bool,
    /// The policy to serve [default: policies/default.json].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The loopback port that Envoy listens on [default: 10000, or a free one if that is taken].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    #[command(flatten)]
    no_install: NoInstall,
}

#[derive(Debug, Args)]
struct TestFlags {
    #[command(flatten)]
    no_install: NoInstall,
    /// Run only the tests whose names contain one of these; the other steps are left out.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

#[derive(Debug, Args)]
struct NoInstall {
    /// Install and download nothing: say what is missing and exit with status 2.
    #[arg(long)]
    no_install: bool,
}

impl NoInstall {
    fn if_missing(&self) -> IfMissing {
        if self.no_install { IfMissing::Tell } else { IfMissing::Install }
    }
}

impl Cli {
    /// Runs the command that was asked for. False means that it ran and the answer is no: a test or a check failed.
    ///
    /// # Errors
    /// When it could not be carried out; [`crate::tools::MissingTools`] when tools are missing and may not be
    /// installed.
    pub fn run(self) -> Result<bool> {
        match self.command {
            Command::Demo(flags) => demo::run(&DemoArgs {
                check: flags.check,
                policy: flags.policy,
                port: flags.port,
                if_missing: flags.no_install.if_missing(),
            }),
            Command::Test(flags) => test::run(flags.no_install.if_missing(), &flags.filters),
            Command::Build(flags) => build::run(flags.if_missing()).map(|()| true),
            Command::Edge(EdgeFlags { test: true, no_install }) => edge::test(no_install.if_missing()),
            Command::Edge(flags) => edge::build(flags.no_install.if_missing()).map(|_| true),
            Command::Bench(flags) => bench::run(flags.if_missing()).map(|()| true),
            Command::Tidy => tidy::run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_and_flag_says_what_it_does() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for flag in command.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {} has no help", command.get_name(), flag.get_id());
            }
        }
    }

    #[test]
    fn the_contract_of_the_design_parses() {
        for line in [
            "demo",
            "demo --check",
            "demo --policy p.json --port 9000",
            "demo --no-install",
            "test one two",
            "test --no-install",
            "build",
            "bench",
            "tidy",
        ] {
            let words = std::iter::once("cargo xtask").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["cargo xtask", "demo", "--port", "0"]).is_err());
    }
}
