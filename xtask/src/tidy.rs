//! Habits that no compiler checks: the shapes of files, forgotten markers, machine paths, licences, links.
//! Formatting and lints are rustfmt's and clippy's work, not this file's.

use std::path::{Path, PathBuf};

use crate::source::{Token, paths, split_tests, tokens};
use crate::workspace::{Finding, Metadata, Package, relative, report, root, text_files};

/// A file below the workspace root and its text.
type File = (PathBuf, String);

/// Macros that mark unfinished work.
const MARKERS: &[&str] = &["todo", "unimplemented", "dbg"];

/// The task.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = text_files(&root())?;
    let metadata = Metadata::declared()?;
    let mut findings = Vec::new();
    for package in metadata.members() {
        findings.extend(manifest(package, &files));
    }
    for file in &files {
        findings.extend(machine_paths(file));
        match file.0.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => findings.extend(rust_file(file)),
            Some("md") => findings.extend(links(file)),
            _ => {}
        }
    }
    findings.extend(summary(&files));
    let crates: Vec<(&str, PathBuf)> = metadata
        .members()
        .map(|package| (package.name.as_str(), package.dir().to_path_buf()))
        .collect();
    findings.extend(named_tests(&files, &crates));
    report("tidy", findings)
}

/// The manifest's promises: licence, workspace lints, a directory named like the crate, a place in ARCHITECTURE.md.
fn manifest(package: &Package, files: &[File]) -> Vec<Finding> {
    let place = relative(&package.manifest_path);
    let mut findings = Vec::new();
    if package.license.is_none() {
        findings.push(Finding::new(&place, "has no license field"));
    }
    let text = files
        .iter()
        .find(|(path, _)| *path == package.manifest_path)
        .map_or("", |(_, text)| text.as_str());
    if !text.contains("[lints]\nworkspace = true") {
        findings.push(Finding::new(&place, "does not take the workspace's lints"));
    }
    let dir = package.dir();
    let in_crates = dir
        .parent()
        .is_some_and(|parent| parent.ends_with("crates"));
    if in_crates && dir.file_name().is_none_or(|name| *name != *package.name) {
        findings.push(Finding::new(
            &place,
            format!("is not in a directory named {}", package.name),
        ));
    }
    let architecture = root().join("ARCHITECTURE.md");
    let mapped = files
        .iter()
        .any(|(path, text)| *path == architecture && text.contains(&format!("`{}`", package.name)));
    if in_crates && !mapped {
        findings.push(Finding::new(
            &place,
            "is not in the code map of ARCHITECTURE.md",
        ));
    }
    findings
}

fn rust_file((path, text): &File) -> Vec<Finding> {
    let place = relative(path);
    let mut findings = Vec::new();
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    let introduces_itself = text.starts_with("//!") || (in_tests && !path.ends_with("main.rs"));
    if !introduces_itself {
        findings.push(Finding::new(
            &place,
            "does not begin with `//!`: what is this file, what is it not?",
        ));
    }
    let all = tokens(text);
    for pair in all.windows(3) {
        if let [hash, bracket, word] = pair
            && hash.text == "#"
            && bracket.text == "["
            && word.text == "ignore"
        {
            findings.push(Finding::new(
                format!("{place}:{}", word.line),
                "ignores a test",
            ));
        }
        if let [word, bang, open] = pair
            && bang.text == "!"
            && open.text == "("
            && MARKERS.contains(&word.text.as_str())
        {
            findings.push(Finding::new(
                format!("{place}:{}", word.line),
                format!("{}! is unfinished work", word.text),
            ));
        }
    }
    let crate_root = path.ends_with("src/lib.rs") || path.ends_with("src/mod.rs");
    if crate_root && let Some(line) = first_other_item(&all) {
        findings.push(Finding::new(
            format!("{place}:{line}"),
            "lib.rs holds documentation, `mod` and `pub use` only",
        ));
    }
    if in_tests
        && path
            .parent()
            .is_some_and(|parent| parent.ends_with("tests"))
    {
        findings.push(Finding::new(
            &place,
            "a crate has one integration test program, tests/it/main.rs",
        ));
    }
    let test_tokens = if in_tests {
        all
    } else {
        split_tests(all).tests
    };
    for named in paths(&test_tokens)
        .iter()
        .filter(|named| named.segments.last().is_some_and(|last| last == "sleep"))
    {
        findings.push(Finding::new(
            format!("{place}:{}", named.line),
            "a test sleeps: wait for the event instead",
        ));
    }
    findings
}

/// The line of the first item that is neither a module nor a re-export.
fn first_other_item(all: &[Token]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at_start = true;
    for token in all {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                // The end of an attribute, of `pub(crate)` or of a re-export's list: an item may begin.
                at_start |= depth == 0 && token.text != "}";
            }
            ";" if depth == 0 => at_start = true,
            "#" | "!" | "pub" if depth == 0 => {}
            "mod" | "use" if depth == 0 && at_start => at_start = false,
            _ if depth == 0 && at_start => return Some(token.line),
            _ => {}
        }
    }
    None
}

/// Directories of one machine have no business in a repository.
fn machine_paths((path, text): &File) -> Vec<Finding> {
    // Put together here so that this file does not contain what it looks for.
    let roots = ["home", "root", "work", "Users"].map(|dir| format!("/{dir}/"));
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for found in roots.iter().filter_map(|root| line.find(root.as_str())) {
            let before = line.get(..found).and_then(|before| before.chars().last());
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '.' && c != '_') {
                findings.push(Finding::new(
                    format!("{}:{}", relative(path), number + 1),
                    "names a path of one machine",
                ));
            }
        }
    }
    findings
}

/// Relative links of a page lead somewhere.
fn links((path, text): &File) -> Vec<Finding> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut findings = Vec::new();
    for (number, line) in outside_code(text) {
        for target in line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !dir.join(target).exists() {
                findings.push(Finding::new(
                    format!("{}:{number}", relative(path)),
                    format!("links to {target}, which is not there"),
                ));
            }
        }
    }
    findings
}

/// Lines outside fenced code, numbered from 1.
fn outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

/// Pages that name tests.
const NAMING: [&str; 2] = ["SECURITY.md", "docs/guide/checklist.md"];

/// The tests that these pages name, as `crate::test`, exist.
fn named_tests(files: &[File], crates: &[(&str, PathBuf)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in NAMING {
        match files.iter().find(|(path, _)| *path == root().join(name)) {
            Some((_, page)) => findings.extend(tests_named_by(name, page, files, crates)),
            None => findings.push(Finding::new(name, "is missing")),
        }
    }
    findings
}

fn tests_named_by(
    name: &str,
    page: &str,
    files: &[File],
    crates: &[(&str, PathBuf)],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in page.lines().enumerate() {
        for (package, test) in line.split('`').filter_map(|text| text.split_once("::")) {
            let Some((_, dir)) = crates.iter().find(|(name, _)| *name == package) else {
                continue;
            };
            let function = format!("fn {test}(");
            let exists = files
                .iter()
                .any(|(path, text)| path.starts_with(dir) && text.contains(&function));
            if !exists {
                findings.push(Finding::new(
                    format!("{name}:{}", number + 1),
                    format!("no test {test} in {package}"),
                ));
            }
        }
    }
    findings
}

/// Every page of `docs/` is in its table of contents.
fn summary(files: &[File]) -> Vec<Finding> {
    let docs = root().join("docs");
    let table = docs.join("SUMMARY.md");
    let Some((_, text)) = files.iter().find(|(path, _)| *path == table) else {
        return vec![Finding::new("docs/SUMMARY.md", "is missing")];
    };
    files
        .iter()
        .map(|(path, _)| path)
        .filter(|path| {
            path.starts_with(&docs)
                && **path != table
                && path.extension().is_some_and(|e| e == "md")
        })
        .filter(|path| {
            let target = path
                .strip_prefix(&docs)
                .unwrap_or(path)
                .display()
                .to_string();
            !text.contains(&format!("]({target})")) && !text.contains(&format!("](./{target})"))
        })
        .map(|path| Finding::new(relative(path), "is not in docs/SUMMARY.md"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(path: &str, text: &str) -> usize {
        rust_file(&(PathBuf::from(path), text.to_owned())).len()
    }

    #[test]
    fn files_say_what_they_are() {
        assert_eq!(rust("src/a.rs", "//! A.\nfn f() {}"), 0);
        assert_eq!(rust("src/a.rs", "fn f() {}"), 1);
    }

    #[test]
    fn unfinished_work_and_ignored_tests_are_found() {
        assert_eq!(rust("src/a.rs", "//! A.\nfn f() { todo!() }"), 1);
        assert_eq!(rust("src/a.rs", "//! A.\n#[ignore]\nfn f() {}"), 1);
        assert_eq!(
            rust("src/a.rs", "//! A.\n#[ignore = \"slow\"]\nfn f() {}"),
            1
        );
        assert_eq!(
            rust("src/a.rs", "//! A.\n// todo!()\nfn f() { ignore(); }"),
            0
        );
    }

    #[test]
    fn tests_do_not_sleep() {
        let text = "//! A.\nfn f() { std::thread::sleep(d); }";
        assert_eq!(rust("tests/it/a.rs", text), 1);
        assert_eq!(rust("src/a.rs", text), 0);
        assert_eq!(
            rust(
                "src/a.rs",
                "//! A.\n#[cfg(test)]\nmod tests { use tokio::time::sleep; }"
            ),
            1
        );
    }

    #[test]
    fn lib_files_hold_modules_only() {
        let good = "//! A.\n#![allow(x)]\n#[cfg(y)]\npub mod a;\nmod b;\npub use a::{B, c::D};\npub(crate) use b::E;\n";
        assert_eq!(rust("crates/x/src/lib.rs", good), 0);
        assert_eq!(
            rust("crates/x/src/lib.rs", "//! A.\nmod a;\npub fn f() {}"),
            1
        );
        assert_eq!(
            rust("crates/x/src/lib.rs", "//! A.\nmod a;\npub struct S;"),
            1
        );
        assert_eq!(
            rust("crates/x/src/lib.rs", "//! A.\nmacro_rules! m { () => {} }"),
            1
        );
    }

    #[test]
    fn one_integration_program() {
        assert_eq!(rust("crates/x/tests/other.rs", "//! A."), 1);
        assert_eq!(rust("crates/x/tests/it/other.rs", "//! A."), 0);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let found = |text: &str| machine_paths(&(PathBuf::from("a.md"), text.to_owned())).len();
        assert_eq!(found(&format!("see /{}/me/x", "home")), 1);
        assert_eq!(found(&format!("see docs/{}/x", "work")), 0);
        assert_eq!(found("see ../shared"), 0);
    }

    #[test]
    fn dead_links_are_found() {
        let found = |text: &str| links(&(root().join("a.md"), text.to_owned())).len();
        assert_eq!(
            found("[a](Cargo.toml) [b](https://example.com) [c](#here)"),
            0
        );
        assert_eq!(found("[a](no/such/file.md)"), 1);
        assert_eq!(found("```\n[a](no/such/file.md)\n```"), 0);
    }

    #[test]
    fn tests_that_are_promised_exist() {
        let code = (
            root().join("crates/x/tests/it/a.rs"),
            "fn there() {}".to_owned(),
        );
        let crates = [("x", root().join("crates/x"))];
        let found = |text: &str| tests_named_by("A.md", text, std::slice::from_ref(&code), &crates);
        assert_eq!(found("| `x::there` |"), []);
        assert_eq!(found("| `x::there`, `x::gone` |").len(), 1);
        assert_eq!(
            named_tests(std::slice::from_ref(&code), &crates).len(),
            NAMING.len()
        );
    }

    #[test]
    fn pages_are_in_the_table_of_contents() {
        let page = |name: &str, text: &str| (root().join(name), text.to_owned());
        let table = page("docs/SUMMARY.md", "- [A](guide/a.md)");
        assert_eq!(summary(&[table.clone(), page("docs/guide/a.md", "")]), []);
        assert_eq!(summary(&[table, page("docs/guide/b.md", "")]).len(), 1);
    }
}
