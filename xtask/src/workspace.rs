//! What the tasks know of the workspace: where it is, its packages as `cargo metadata` tells them, how to run a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Deserialize;

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// A `cargo` command at the workspace root.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    // What cargo told this program about itself: some build scripts would run again because of it.
    for (name, _) in std::env::vars_os() {
        if is_about_a_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

fn is_about_a_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// Runs a command with its output passed through and says how long it took; a non-zero exit is an error that names it.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    eprintln!("==> {shown}");
    let started = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    eprintln!("==> that took {} s", started.elapsed().as_secs());
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Whether `cargo NAME --version` works.
pub(crate) fn has_subcommand(name: &str) -> bool {
    cargo([name, "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn shown(command: &Command) -> String {
    let mut words = vec!["cargo".to_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut text: String = variables
        .map(|(name, value)| format!("{}={} ", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    text.push_str(&words.join(" "));
    text
}

/// The part of `cargo metadata` that the tasks read.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    #[serde(default)]
    pub(crate) resolve: Option<Resolve>,
    #[serde(default)]
    pub(crate) workspace_members: Vec<String>,
}

/// A package, ours or not.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) features: std::collections::BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

/// A dependency as a manifest declares it. `kind` is absent for normal ones, else `dev` or `build`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) features: Vec<String>,
    #[serde(default)]
    pub(crate) uses_default_features: bool,
}

/// One library, program, test or benchmark of a package.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

/// The resolved graph: which package depends on which.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// One package of the resolved graph.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDep>,
}

/// One edge of the resolved graph.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct NodeDep {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<DepKind>,
}

/// Why an edge is there.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DepKind {
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// Our packages with their declared dependencies; reads manifests only.
    pub(crate) fn declared() -> anyhow::Result<Self> {
        Self::read(&mut cargo([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
        ]))
    }

    /// Every package of the build with the resolved graph.
    pub(crate) fn resolved() -> anyhow::Result<Self> {
        Self::read(&mut cargo([
            "metadata",
            "--format-version",
            "1",
            "--all-features",
        ]))
    }

    /// The declared packages of another manifest.
    pub(crate) fn of_manifest(manifest: &Path) -> anyhow::Result<Self> {
        Self::read(
            cargo([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--manifest-path",
            ])
            .arg(manifest),
        )
    }

    fn read(command: &mut Command) -> anyhow::Result<Self> {
        let output = command.output().context("cannot start `cargo metadata`")?;
        if !output.status.success() {
            bail!(
                "`cargo metadata` failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).context("cannot read the output of `cargo metadata`")
    }

    /// The packages of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }
}

impl Package {
    /// The directory of the package.
    pub(crate) fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }
}

/// A broken rule and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) place: String,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

/// Prints the findings; any makes the task fail.
pub(crate) fn report(task: &str, mut findings: Vec<Finding>) -> anyhow::Result<()> {
    findings.sort();
    findings.dedup();
    for finding in &findings {
        eprintln!("{}: {}", finding.place, finding.message);
    }
    match findings.len() {
        0 => {
            eprintln!("==> {task}: ok");
            Ok(())
        }
        count => bail!("{task}: {count} finding(s)"),
    }
}

/// All files of the checkout below `dir` with their text, generated directories and binary files left out.
pub(crate) fn text_files(dir: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let generated = [
        root().join("target"),
        root().join("benches/peer/target"),
        root().join("fuzz/target"),
        root().join("fuzz/corpus"),
        root().join("fuzz/artifacts"),
    ];
    let mut files = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for item in
            std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?
        {
            let path = item?.path();
            if path.is_symlink()
                || path.file_name().is_some_and(|name| name == ".git")
                || generated.contains(&path)
            {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                files.push((path, text));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A path as shown in findings: relative to the workspace.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
