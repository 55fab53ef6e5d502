//! Dependencies point down, and nothing below the purity line touches the world.
//!
//! `CRATES` is the layer diagram of ARCHITECTURE.md as data. An edge that is not in it fails, whether cargo would accept
//! it or not. Below the purity line (`pure`) a crate may neither depend on anything that opens sockets, files or timers
//! nor name clocks, files, sockets or ambient randomness in code that is compiled outside tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{paths, split_tests, tokens};
use crate::workspace::{Finding, Metadata, Package, Resolve, relative, report, text_files};

/// One crate's place: its level, whether it lies below the purity line, and which of our crates it may depend on.
struct Place {
    name: &'static str,
    level: u8,
    pure: bool,
    may_use: &'static [&'static str],
}

const fn pure(name: &'static str, level: u8, may_use: &'static [&'static str]) -> Place {
    Place {
        name,
        level,
        pure: true,
        may_use,
    }
}

const fn with_io(name: &'static str, level: u8, may_use: &'static [&'static str]) -> Place {
    Place {
        name,
        level,
        pure: false,
        may_use,
    }
}

const CRATES: &[Place] = &[
    pure("eidetica-entry", 0, &[]),
    pure("eidetica-crdt", 1, &["eidetica-entry"]),
    pure("eidetica-mmr", 1, &[]),
    pure("eidetica-auth", 2, &["eidetica-entry", "eidetica-crdt"]),
    pure("eidetica-storage", 2, &["eidetica-entry"]),
    pure("eidetica-transport", 2, &["eidetica-entry"]),
    pure(
        "eidetica-database",
        3,
        &[
            "eidetica-entry",
            "eidetica-crdt",
            "eidetica-auth",
            "eidetica-storage",
        ],
    ),
    pure("eidetica-authdb", 3, &["eidetica-mmr"]),
    pure("eidetica-backup", 3, &["eidetica-storage"]),
    pure("eidetica-statesync", 3, &["eidetica-mmr"]),
    pure("eidetica-protocol", 3, &["eidetica-entry", "eidetica-auth"]),
    pure(
        "eidetica-engine",
        3,
        &[
            "eidetica-entry",
            "eidetica-auth",
            "eidetica-transport",
            "eidetica-protocol",
        ],
    ),
    pure(
        "eidetica-ticket",
        3,
        &["eidetica-entry", "eidetica-auth", "eidetica-transport"],
    ),
    with_io("eidetica-storage-dir", 4, &["eidetica-storage"]),
    with_io(
        "eidetica-authdb-dir",
        4,
        &[
            "eidetica-authdb",
            "eidetica-storage",
            "eidetica-storage-dir",
        ],
    ),
    with_io(
        "eidetica-statesync-net",
        4,
        &[
            "eidetica-entry",
            "eidetica-auth",
            "eidetica-mmr",
            "eidetica-authdb",
            "eidetica-protocol",
            "eidetica-statesync",
            "eidetica-transport",
        ],
    ),
    with_io(
        "eidetica-storage-fjall",
        4,
        &["eidetica-storage", "eidetica-storage-dir"],
    ),
    with_io(
        "eidetica-storage-redb",
        4,
        &["eidetica-storage", "eidetica-storage-dir"],
    ),
    with_io("eidetica-storage-postgres", 4, &["eidetica-storage"]),
    with_io(
        "eidetica-storage-sqlite",
        4,
        &["eidetica-storage", "eidetica-storage-dir"],
    ),
    with_io(
        "eidetica-transport-http",
        4,
        &["eidetica-entry", "eidetica-transport"],
    ),
    with_io(
        "eidetica-transport-iroh",
        4,
        &["eidetica-entry", "eidetica-transport"],
    ),
    with_io(
        "eidetica-node",
        4,
        &[
            "eidetica-entry",
            "eidetica-crdt",
            "eidetica-auth",
            "eidetica-storage",
            "eidetica-transport",
            "eidetica-database",
            "eidetica-protocol",
            "eidetica-engine",
        ],
    ),
    with_io(
        "eidetica",
        5,
        &[
            "eidetica-entry",
            "eidetica-crdt",
            "eidetica-auth",
            "eidetica-storage",
            "eidetica-transport",
            "eidetica-database",
            "eidetica-protocol",
            "eidetica-engine",
            "eidetica-backup",
            "eidetica-storage-dir",
            "eidetica-storage-fjall",
            "eidetica-storage-postgres",
            "eidetica-storage-redb",
            "eidetica-storage-sqlite",
            "eidetica-transport-http",
            "eidetica-ticket",
            "eidetica-transport-iroh",
            "eidetica-node",
        ],
    ),
    with_io("eidetica-cli", 6, &["eidetica"]),
    with_io("eidetica-chat", 6, &["eidetica"]),
    with_io(
        "eidetica-sync-example",
        6,
        &[
            "eidetica-entry",
            "eidetica-auth",
            "eidetica-mmr",
            "eidetica-authdb",
            "eidetica-authdb-dir",
            "eidetica-statesync",
            "eidetica-statesync-net",
            "eidetica-transport",
            "eidetica-transport-http",
        ],
    ),
    with_io("eidetica-todo", 6, &["eidetica"]),
];

/// Edges between crates of one level that are meant.
const SIDEWAYS: &[(&str, &str)] = &[
    ("eidetica-engine", "eidetica-protocol"),
    ("eidetica-authdb-dir", "eidetica-storage-dir"),
    ("eidetica-storage-fjall", "eidetica-storage-dir"),
    ("eidetica-storage-redb", "eidetica-storage-dir"),
    ("eidetica-storage-sqlite", "eidetica-storage-dir"),
];

/// Edges of tests alone that reach up: the tests of a crate that take the engine of the test matrix, and
/// those that show an engine or a transport at work.
const TESTS_REACH_UP: &[(&str, &str)] = &[
    ("eidetica-database", "eidetica-storage-fjall"),
    ("eidetica-database", "eidetica-storage-postgres"),
    ("eidetica-database", "eidetica-storage-redb"),
    ("eidetica-database", "eidetica-storage-sqlite"),
    ("eidetica-storage-postgres", "eidetica"),
    ("eidetica-transport-iroh", "eidetica"),
];

/// Outside the layers: they may use any crate of ours, and no crate of the layers may use them outside its tests.
const BESIDE: &[&str] = &[
    "eidetica-crash",
    "eidetica-simulation",
    "eidetica-testkit",
    "eidetica-benches",
    "xtask",
];

/// What no crate below the purity line may reach, not even through somebody else's crate.
const IO_CRATES: &[&str] = &[
    "async-std",
    "axum",
    "fjall",
    "hyper",
    "iroh",
    "mio",
    "quinn",
    "redb",
    "reqwest",
    "rusqlite",
    "smol",
    "socket2",
    "tokio",
    "tokio-postgres",
];

/// What no crate below the purity line may declare: sources of randomness.
const RANDOMNESS_CRATES: &[&str] = &["fastrand", "getrandom"];

/// Features of `rand` and `rand_core` that reach for the operating system's randomness.
const RANDOMNESS_FEATURES: &[&str] = &["default", "os_rng", "sys_rng", "thread_rng"];

/// Paths that no crate below the purity line may name outside tests, and what they are.
const WORDS: &[(&str, &str)] = &[
    ("tokio", "an async runtime"),
    ("std::net", "sockets"),
    ("std::os", "operating system handles"),
    ("std::fs", "files"),
    ("SystemTime", "a wall clock"),
    ("Instant::now", "a clock"),
    ("thread::sleep", "a timer"),
    ("thread_rng", "ambient randomness"),
    ("OsRng", "ambient randomness"),
    ("SysRng", "ambient randomness"),
    ("ThreadRng", "ambient randomness"),
    ("getrandom", "ambient randomness"),
    ("rand::rng", "ambient randomness"),
    ("rand::random", "ambient randomness"),
    ("rand::make_rng", "ambient randomness"),
];

/// The task.
pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = Metadata::resolved()?;
    let members: Vec<&Package> = metadata.members().collect();
    let mut findings = table(CRATES);
    findings.extend(edges(&members));
    findings.extend(declared_randomness(&members));
    if let Some(resolve) = &metadata.resolve {
        findings.extend(reached(&metadata.packages, resolve));
    }
    for package in members {
        if place(&package.name).is_some_and(|place| place.pure) {
            findings.extend(words(&text_files(&package.dir().join("src"))?));
        }
    }
    report("layers", findings)
}

fn place(name: &str) -> Option<&'static Place> {
    CRATES.iter().find(|place| place.name == name)
}

fn is_ours(name: &str) -> bool {
    place(name).is_some() || BESIDE.contains(&name)
}

/// Edges of the table itself that do not point down, or that lead a pure crate out of its half.
fn table(crates: &[Place]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for from in crates {
        for to in from.may_use.iter().filter_map(|to| place(to)) {
            let down = to.level < from.level || SIDEWAYS.contains(&(from.name, to.name));
            if !down || (from.pure && !to.pure) {
                findings.push(Finding::new(
                    from.name,
                    format!("stands beside or below {}", to.name),
                ));
            }
        }
    }
    findings
}

/// Edges between our crates that the table does not allow.
fn edges(members: &[&Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in members {
        let Some(from) = place(&package.name) else {
            if !BESIDE.contains(&package.name.as_str()) {
                findings.push(Finding::new(
                    &package.name,
                    "stands in no layer: add it to CRATES in xtask/src/layers.rs",
                ));
            }
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| is_ours(&d.name)) {
            let to = dependency.name.as_str();
            let allowed = match dependency.kind.as_deref() {
                Some("dev") => {
                    BESIDE.contains(&to)
                        || TESTS_REACH_UP.contains(&(from.name, to))
                        || place(to).is_some_and(|to| to.level <= from.level)
                }
                _ => from.may_use.contains(&to),
            };
            if !allowed {
                findings.push(Finding::new(from.name, format!("may not depend on {to}")));
            }
        }
    }
    findings
}

/// Sources of randomness that a pure crate's manifest asks for.
fn declared_randomness(members: &[&Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in members
        .iter()
        .filter(|package| place(&package.name).is_some_and(|place| place.pure))
    {
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind.as_deref() != Some("dev"))
        {
            let name = dependency.name.as_str();
            if RANDOMNESS_CRATES.contains(&name) {
                findings.push(Finding::new(
                    &package.name,
                    format!("lies below the purity line and may not depend on {name}"),
                ));
            }
            if name != "rand" && name != "rand_core" {
                continue;
            }
            if name == "rand" && dependency.uses_default_features {
                findings.push(Finding::new(
                    &package.name,
                    "must take `rand` without its default features",
                ));
            }
            for feature in dependency
                .features
                .iter()
                .filter(|f| RANDOMNESS_FEATURES.contains(&f.as_str()))
            {
                findings.push(Finding::new(
                    &package.name,
                    format!("may not enable `{name}/{feature}`"),
                ));
            }
        }
    }
    findings
}

/// Crates that do I/O and that a pure crate reaches over normal and build dependencies.
fn reached(packages: &[Package], resolve: &Resolve) -> Vec<Finding> {
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|p| (p.id.as_str(), p.name.as_str()))
        .collect();
    let nodes: BTreeMap<&str, _> = resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let mut findings = Vec::new();
    for package in packages
        .iter()
        .filter(|p| place(&p.name).is_some_and(|place| place.pure))
    {
        let mut seen = BTreeSet::from([package.id.as_str()]);
        let mut open = vec![package.id.as_str()];
        while let Some(id) = open.pop() {
            for dep in nodes
                .get(id)
                .map(|node| node.deps.as_slice())
                .unwrap_or_default()
            {
                let wanted = dep
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind.as_deref() != Some("dev"));
                if !wanted || !seen.insert(&dep.pkg) {
                    continue;
                }
                open.push(&dep.pkg);
                if let Some(name) = names
                    .get(dep.pkg.as_str())
                    .filter(|name| IO_CRATES.contains(name))
                {
                    let by = names.get(id).copied().unwrap_or(id);
                    let message =
                        format!("lies below the purity line and reaches {name} (through {by})");
                    findings.push(Finding::new(&package.name, message));
                }
            }
        }
    }
    findings
}

/// Forbidden paths named in the sources of one pure crate.
fn words(files: &[(PathBuf, String)]) -> Vec<Finding> {
    let split: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|(path, text)| (path, split_tests(tokens(text))))
        .collect();
    let test_files: Vec<PathBuf> = split
        .iter()
        .flat_map(|(path, split)| {
            split
                .test_modules
                .iter()
                .flat_map(|name| module_files(path, name))
        })
        .collect();
    let mut findings = Vec::new();
    for (path, split) in &split {
        if test_files.iter().any(|test| path.starts_with(test)) {
            continue;
        }
        for named in paths(&split.code) {
            for (word, what) in WORDS.iter().filter(|(word, _)| named.contains(word)) {
                let place = format!("{}:{}", relative(path), named.line);
                findings.push(Finding::new(
                    place,
                    format!("names {word}, {what}, below the purity line"),
                ));
            }
        }
    }
    findings
}

/// Where `mod name;` written in `path` may live: a file or a directory.
fn module_files(path: &Path, name: &str) -> Vec<PathBuf> {
    let dir = path.parent().unwrap_or(Path::new(""));
    let holds_children = path
        .file_name()
        .is_some_and(|file| file == "lib.rs" || file == "mod.rs" || file == "main.rs");
    let base = if holds_children {
        dir.to_path_buf()
    } else {
        path.with_extension("")
    };
    vec![base.join(format!("{name}.rs")), base.join(name)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{DepKind, Dependency, Node, NodeDep};

    fn package(name: &str, dependencies: Vec<Dependency>) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            dependencies,
            ..Package::default()
        }
    }

    fn on(name: &str) -> Dependency {
        Dependency {
            name: name.to_owned(),
            ..Dependency::default()
        }
    }

    fn messages(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect()
    }

    fn words_in(text: &str) -> Vec<Finding> {
        words(&[(PathBuf::from("src/a.rs"), text.to_owned())])
    }

    #[test]
    fn the_table_points_down() {
        assert_eq!(table(CRATES), []);
        let upward = [pure("eidetica-entry", 0, &["eidetica-crdt"])];
        let beside = [pure("eidetica-protocol", 3, &["eidetica-engine"])];
        let out = [pure("eidetica-engine", 9, &["eidetica-node"])];
        for planted in [upward, beside, out] {
            assert_eq!(table(&planted).len(), 1);
        }
    }

    #[test]
    fn a_planted_edge_fails() {
        for (from, to) in [
            ("eidetica-entry", "eidetica-crdt"),
            ("eidetica-protocol", "eidetica-storage"),
            ("eidetica-protocol", "eidetica-database"),
            ("eidetica-database", "eidetica-node"),
            ("eidetica-storage-redb", "eidetica-storage-fjall"),
            ("eidetica-cli", "eidetica-database"),
            ("eidetica", "eidetica-testkit"),
        ] {
            let planted = package(from, vec![on(to)]);
            assert_eq!(
                messages(&edges(&[&planted])),
                [format!("may not depend on {to}")],
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn meant_edges_pass() {
        let dev = |name: &str| Dependency {
            kind: Some("dev".to_owned()),
            ..on(name)
        };
        let engine = package(
            "eidetica-engine",
            vec![
                on("eidetica-protocol"),
                dev("eidetica-testkit"),
                on("serde"),
            ],
        );
        let auth = package(
            "eidetica-auth",
            vec![on("eidetica-entry"), dev("eidetica-storage")],
        );
        let database = package("eidetica-database", vec![dev("eidetica-storage-redb")]);
        assert_eq!(edges(&[&engine, &auth, &database]), []);
        let inside = package("eidetica-database", vec![on("eidetica-storage-redb")]);
        assert_eq!(
            messages(&edges(&[&inside])),
            ["may not depend on eidetica-storage-redb"]
        );
        let upward = package("eidetica-auth", vec![dev("eidetica-node")]);
        assert_eq!(
            messages(&edges(&[&upward])),
            ["may not depend on eidetica-node"]
        );
    }

    #[test]
    fn a_crate_outside_the_table_fails() {
        let stray = package("eidetica-util", vec![]);
        assert_eq!(edges(&[&stray]).len(), 1);
    }

    #[test]
    fn a_pure_crate_may_not_reach_io_through_others() {
        for io in IO_CRATES {
            let edge = |to: &str, kind: Option<&str>| NodeDep {
                pkg: to.to_owned(),
                dep_kinds: vec![DepKind {
                    kind: kind.map(str::to_owned),
                }],
            };
            let packages = [
                package("eidetica-entry", vec![]),
                package("innocent", vec![]),
                package(io, vec![]),
            ];
            let node = |id: &str, deps| Node {
                id: id.to_owned(),
                deps,
            };
            let graph = |kind| Resolve {
                nodes: vec![
                    node("eidetica-entry", vec![edge("innocent", kind)]),
                    node("innocent", vec![edge(io, None)]),
                ],
            };
            let expected =
                format!("lies below the purity line and reaches {io} (through innocent)");
            assert_eq!(messages(&reached(&packages, &graph(None))), [expected]);
            assert_eq!(reached(&packages, &graph(Some("dev"))), []);
        }
    }

    #[test]
    fn randomness_in_a_pure_manifest_fails() {
        let rand = |features: &[&str], uses_default_features| Dependency {
            features: features.iter().map(|f| (*f).to_owned()).collect(),
            uses_default_features,
            ..on("rand")
        };
        for bad in [
            rand(&[], true),
            rand(&["thread_rng"], false),
            rand(&["sys_rng"], false),
            on("getrandom"),
            on("fastrand"),
        ] {
            assert_eq!(
                declared_randomness(&[&package("eidetica-auth", vec![bad])]).len(),
                1
            );
        }
        assert_eq!(
            declared_randomness(&[&package("eidetica-auth", vec![rand(&["std"], false)])]),
            []
        );
        assert_eq!(
            declared_randomness(&[&package("eidetica-node", vec![rand(&["sys_rng"], true)])]),
            []
        );
    }

    #[test]
    fn each_planted_word_fails() {
        for (word, _) in WORDS {
            for text in [
                format!("fn f() {{ {word}(); }}"),
                format!("use {word}::thing;"),
                format!("\n#[cfg(test)]\nmod t {{}}\nuse {word};"),
            ] {
                assert!(!words_in(&text).is_empty(), "{text}");
            }
            for text in [
                format!("// {word}"),
                format!("const S: &str = \"{word}\";"),
                format!("#[cfg(test)]\nmod t {{ use {word}; }}"),
            ] {
                assert_eq!(words_in(&text), [], "{text}");
            }
        }
    }

    #[test]
    fn files_of_test_modules_are_left_out() {
        let lib = (
            PathBuf::from("src/lib.rs"),
            "#[cfg(test)]\nmod oracle;\nmod real;".to_owned(),
        );
        let oracle = (PathBuf::from("src/oracle.rs"), "use std::fs;".to_owned());
        let real = (
            PathBuf::from("src/real.rs"),
            "#[cfg(test)]\nmod tests;".to_owned(),
        );
        let tests = (
            PathBuf::from("src/real/tests.rs"),
            "use std::fs;".to_owned(),
        );
        assert_eq!(
            words(&[lib.clone(), oracle.clone(), real, tests.clone()]),
            []
        );
        assert_eq!(words(&[lib, oracle, tests]).len(), 1);
    }
}
