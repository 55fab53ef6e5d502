//! Known-bad patches, each with the one test that must notice it: what shows that the tests of authority test it. They
//! are applied to a scratch copy of the checkout, never to the checkout, and one that does not apply or does not compile
//! is a finding as much as one that nobody notices.
//!
//! A patch is a file in `xtask/mutants/`: what it breaks, two lines that say who must notice, and a unified diff.
//!
//! ```text
//! A revocation is lifted by whoever likes.
//! package: eidetica-auth
//! test: it rules::r3_only_what_is_as_strong_and_above_lifts
//! --- a/crates/eidetica-auth/src/state/tops.rs
//! +++ b/crates/eidetica-auth/src/state/tops.rs
//! @@ -40,3 +40,3 @@
//! ```
//!
//! The test is given by its target, a file or directory in `tests/`, and its path there. Line numbers are not looked at:
//! what a hunk replaces must stand in the file exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::workspace::{Finding, cargo, relative, report, root};

/// How long one test may take. A patch may well make one run for ever.
const PATIENCE: Duration = Duration::from_secs(120);

const DIFF: &str = "--- a/";

/// Which patches to try.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only patches whose file name contains this
    name: Option<String>,
}

/// The task. Prints a table; succeeds if each patch is noticed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut patches = patches()?;
    let wanted = args.name.as_deref().unwrap_or_default();
    patches.retain(|patch| patch.name.contains(wanted));
    ensure!(!patches.is_empty(), "no patch has {wanted} in its name");
    let start = Instant::now();
    let scratch = Scratch::new()?;
    // One package after the other, so that each is built anew as seldom as can be.
    patches.sort_by(|a, b| (&a.test.package, &a.name).cmp(&(&b.test.package, &b.name)));
    eprintln!("==> building the tests without a patch: minutes where it was never done");
    let mut findings = scratch.check_unpatched(&patches)?;
    println!("| patch | noticed by | s |\n|---|---|---|");
    for patch in &patches {
        let start = Instant::now();
        let outcome = scratch.try_patch(patch);
        let (name, test, seconds) = (&patch.name, &patch.test, start.elapsed().as_secs_f32());
        match outcome {
            Ok(()) => println!("| {name} | {} {} | {seconds:.1} |", test.package, test.path),
            Err(error) => {
                println!("| {name} | {error:#} | {seconds:.1} |");
                findings.push(Finding::new(&patch.place, format!("{error:#}")));
            }
        }
    }
    let seconds = start.elapsed().as_secs();
    println!("{} patches in {seconds} s", patches.len());
    report("mutants", findings)
}

/// All patches, in the order of their names.
fn patches() -> anyhow::Result<Vec<Patch>> {
    let dir = root().join("xtask/mutants");
    let mut patches = Vec::new();
    for item in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = item?.path();
        if path.extension().is_some_and(|ext| ext == "patch") {
            let place = relative(&path);
            let text = fs::read_to_string(&path)?;
            patches.push(Patch::parse(&place, &text).with_context(|| place)?);
        }
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

/// An integration test of one of our crates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    package: String,
    target: String,
    /// With its modules.
    path: String,
}

/// Lines of a file and what stands there instead.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hunk {
    old: String,
    new: String,
}

struct Patch {
    name: String,
    /// Its file.
    place: String,
    test: Test,
    /// By file.
    hunks: BTreeMap<PathBuf, Vec<Hunk>>,
}

impl Patch {
    fn parse(place: &str, text: &str) -> anyhow::Result<Self> {
        let name = Path::new(place).file_stem().context("no name")?;
        let at = text.find(&format!("\n{DIFF}")).context("no diff")?;
        let (head, diff) = text.split_at(at + 1);
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.with_context(|| format!("no line `{name}`"))
        };
        let (target, path) = field("test: ")?
            .split_once(' ')
            .context("no target before the test")?;
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            place: place.to_owned(),
            test: Test {
                package: field("package: ")?.to_owned(),
                target: target.to_owned(),
                path: path.to_owned(),
            },
            hunks: parse_diff(diff)?,
        })
    }

    /// The files that it changes, as they are in the checkout at `dir`, and as it makes them.
    fn apply(&self, dir: &Path) -> anyhow::Result<Vec<(PathBuf, String, String)>> {
        let mut files = Vec::new();
        for (file, hunks) in &self.hunks {
            let path = dir.join(file);
            let sound = fs::read_to_string(&path)
                .with_context(|| format!("does not apply: cannot read {}", file.display()))?;
            let mut broken = sound.clone();
            for hunk in hunks {
                broken = hunk.apply(&broken).with_context(|| {
                    format!("does not apply to {}:\n{}", file.display(), hunk.old)
                })?;
            }
            files.push((path, sound, broken));
        }
        Ok(files)
    }
}

impl Hunk {
    fn apply(&self, text: &str) -> anyhow::Result<String> {
        let whole_lines = |at: &usize| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n');
        let found = text.match_indices(&self.old).map(|(at, _)| at);
        match found.filter(whole_lines).collect::<Vec<_>>()[..] {
            [at] => {
                let (before, rest) = text.split_at(at);
                Ok(format!(
                    "{before}{}",
                    rest.replacen(&self.old, &self.new, 1)
                ))
            }
            ref places => bail!("these lines stand there {} times", places.len()),
        }
    }
}

fn parse_diff(diff: &str) -> anyhow::Result<BTreeMap<PathBuf, Vec<Hunk>>> {
    let mut files: BTreeMap<PathBuf, Vec<Hunk>> = BTreeMap::new();
    let mut hunks: Option<&mut Vec<Hunk>> = None;
    for line in diff.lines() {
        if let Some(file) = line.strip_prefix(DIFF) {
            hunks = Some(files.entry(file.into()).or_default());
            continue;
        }
        if line.starts_with("+++ b/") {
            continue;
        }
        let hunks = hunks.as_mut().context("a hunk before its file")?;
        if line.starts_with("@@ ") {
            hunks.push(Hunk::default());
            continue;
        }
        let hunk = hunks.last_mut().context("lines before a hunk")?;
        let (mark, text) = line.split_at_checked(1).unwrap_or((" ", ""));
        let (old, new) = match mark {
            " " => (true, true),
            "-" => (true, false),
            "+" => (false, true),
            _ => bail!("no line of a diff: {line}"),
        };
        for (side, text_of) in [(old, &mut hunk.old), (new, &mut hunk.new)] {
            if side {
                text_of.push_str(text);
                text_of.push('\n');
            }
        }
    }
    let changes = |hunk: &Hunk| hunk.old != hunk.new && !hunk.old.is_empty();
    ensure!(!files.is_empty(), "no file");
    for (file, hunks) in &files {
        let some = !hunks.is_empty() && hunks.iter().all(changes);
        ensure!(some, "a hunk of {} changes nothing", file.display());
    }
    Ok(files)
}

/// A copy of what git knows, with a target directory of its own that is kept from run to run.
struct Scratch {
    dir: PathBuf,
    target: PathBuf,
}

/// A test program and the directory it runs in.
struct Program {
    path: PathBuf,
    dir: PathBuf,
}

impl Scratch {
    /// Writes what has changed since the last run, so that no more than that is built anew.
    fn new() -> anyhow::Result<Self> {
        let home = root().join("target/mutants");
        let scratch = Self {
            dir: home.join("checkout"),
            target: home.join("target"),
        };
        let mut old = BTreeSet::new();
        if scratch.dir.exists() {
            list_files(&scratch.dir, &mut old)?;
        }
        for name in files_of_checkout()? {
            let (from, to) = (root().join(&name), scratch.dir.join(&name));
            // What is deleted and not yet committed is still known.
            if !from.is_file() {
                continue;
            }
            old.remove(&to);
            let text = fs::read(&from).with_context(|| format!("cannot read {name}"))?;
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::create_dir_all(to.parent().context("a file without a directory")?)?;
                fs::write(&to, text).with_context(|| format!("cannot copy {name}"))?;
            }
        }
        for gone in old {
            fs::remove_file(gone)?;
        }
        Ok(scratch)
    }

    /// Each test must pass where nothing is broken.
    fn check_unpatched(&self, patches: &[Patch]) -> anyhow::Result<Vec<Finding>> {
        let tests: BTreeSet<&Test> = patches.iter().map(|patch| &patch.test).collect();
        let mut programs = BTreeMap::new();
        let mut findings = Vec::new();
        for test in tests {
            let target = (&test.package, &test.target);
            let program = match programs.remove(&target) {
                Some(program) => program,
                None => self.build(test).context("without a patch")?,
            };
            if !program.passes(test)? {
                findings.push(Finding::new(&test.path, "fails without a patch"));
            }
            programs.insert(target, program);
        }
        Ok(findings)
    }

    /// An error unless the patch applies, compiles, and makes its test fail.
    fn try_patch(&self, patch: &Patch) -> anyhow::Result<()> {
        let files = patch.apply(&self.dir)?;
        for (path, _, broken) in &files {
            fs::write(path, broken)?;
        }
        let passes = self
            .build(&patch.test)
            .and_then(|program| program.passes(&patch.test));
        for (path, sound, _) in &files {
            fs::write(path, sound)?;
        }
        match passes? {
            true => bail!("NOT noticed by {}", patch.test.path),
            false => Ok(()),
        }
    }

    fn build(&self, test: &Test) -> anyhow::Result<Program> {
        let mut command = cargo(["test", "--quiet", "--no-run", "--message-format", "json"]);
        command
            .args(["--package", &test.package, "--test", &test.target])
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        let output = command.output().context("cannot start `cargo test`")?;
        let messages = String::from_utf8_lossy(&output.stdout);
        let messages: Vec<serde_json::Value> = messages
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if !output.status.success() {
            let errors = messages.iter().filter_map(|message| {
                let message = message.get("message")?;
                let is_error = message.get("level")?.as_str()? == "error";
                message.get("rendered")?.as_str().filter(|_| is_error)
            });
            let errors: String = errors.take(3).collect();
            let other = String::from_utf8_lossy(&output.stderr);
            bail!("does not compile: {errors}{}", other.trim_end());
        }
        let program = messages.iter().find_map(|message| {
            let is_it = message.get("target")?.get("name")?.as_str()? == test.target;
            let path = message.get("executable")?.as_str().filter(|_| is_it)?;
            let manifest = Path::new(message.get("manifest_path")?.as_str()?);
            Some(Program {
                path: path.into(),
                dir: manifest.parent()?.to_owned(),
            })
        });
        program.with_context(|| format!("{} has no tests {}", test.package, test.target))
    }
}

impl Program {
    /// Whether the test passes; one that does not end fails. An error if it is not there.
    fn passes(&self, test: &Test) -> anyhow::Result<bool> {
        let listed = Command::new(&self.path)
            .args(["--exact", &test.path, "--list"])
            .output()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let line = format!("{}: test", test.path);
        let is_there = listed.lines().any(|found| found == line);
        ensure!(is_there, "there is no test {}", test.path);
        let mut child = Command::new(&self.path)
            .args(["--exact", &test.path])
            .current_dir(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What git has, and what it would be given.
fn files_of_checkout() -> anyhow::Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .current_dir(root())
        .output()
        .context("cannot start `git ls-files`")?;
    ensure!(listed.status.success(), "`git ls-files` failed");
    let names = String::from_utf8(listed.stdout)?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

fn list_files(dir: &Path, files: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(&dir)? {
            let item = item?;
            match item.file_type()?.is_dir() {
                true => open.push(item.path()),
                false => drop(files.insert(item.path())),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Breaks it.\npackage: p\ntest: it a::b\n--- a/src/x.rs\n+++ b/src/x.rs\n@@ -9,3 +9,2 @@ fn f\n a\n-b\n-c\n+d\n";

    fn hunk() -> Hunk {
        let patch = Patch::parse("mutants/01-it.patch", PATCH).unwrap();
        assert_eq!(patch.name, "01-it");
        assert_eq!((&*patch.test.target, &*patch.test.path), ("it", "a::b"));
        let [(file, mut hunks)] = Vec::from_iter(patch.hunks).try_into().unwrap();
        assert_eq!((file.as_path(), hunks.len()), (Path::new("src/x.rs"), 1));
        hunks.remove(0)
    }

    #[test]
    fn a_patch_is_applied_where_its_lines_stand_once() {
        let hunk = hunk();
        assert_eq!(hunk.apply("x\na\nb\nc\ny\n").unwrap(), "x\na\nd\ny\n");
        assert_eq!(hunk.apply("a\nb\nc\n").unwrap(), "a\nd\n");
        assert!(hunk.apply("a\nb\nd\n").is_err(), "not there");
        assert!(hunk.apply("xa\nb\nc\n").is_err(), "half a line");
        assert!(hunk.apply("a\nb\nc\na\nb\nc\n").is_err(), "there twice");
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for (from, to) in [
            ("package: p\n", ""),
            ("it a::b", "it"),
            ("--- a/", "--- "),
            ("@@ -9,3 +9,2 @@ fn f\n", ""),
            ("-b\n-c\n+d\n", ""),
            ("+d", "d"),
        ] {
            let text = PATCH.replace(from, to);
            assert!(Patch::parse("x.patch", &text).is_err(), "{text}");
        }
    }

    /// The tests themselves are run by the task alone.
    #[test]
    fn every_patch_applies_and_names_a_test() {
        let patches = patches().unwrap();
        assert!(patches.len() >= 15, "{} patches", patches.len());
        for patch in patches {
            let files = patch.apply(&root());
            let files = files.unwrap_or_else(|error| panic!("{}: {error:#}", patch.place));
            let dir = root().join("crates").join(&patch.test.package);
            for (path, ..) in files {
                assert!(path.starts_with(dir.join("src")), "{}", patch.place);
            }
            let tests = dir.join("tests").join(&patch.test.target);
            let (module, name) = patch.test.path.rsplit_once("::").unwrap();
            let module = module.replace("::", "/");
            let text = fs::read_to_string(tests.join(module).with_extension("rs")).unwrap();
            let test = format!("\n#[test]\nfn {name}() {{\n");
            assert!(text.contains(&test), "{}: no {name}", patch.place);
        }
    }
}
