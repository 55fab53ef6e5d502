//! Everything a change must pass before it lands, cheapest first; the tests' own summary is the last thing printed.

use crate::workspace::{cargo, has_subcommand, run as run_command};
use crate::{layers, test, tidy};

/// The task.
pub(crate) fn run() -> anyhow::Result<()> {
    run_command(&mut cargo(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    layers::run()?;
    if has_subcommand("deny") {
        // Advisories need a database that is fetched from the network: checked by hand, see CONTRIBUTING.md.
        run_command(&mut cargo(["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        eprintln!(
            "==> cargo-deny is not installed: dependency rules (deny.toml) are not checked here"
        );
    }
    run_command(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))?;
    run_command(
        cargo(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    test::run(&test::Args::default())
}
