//! Author's right by target's right by operation: what is allowed and what it does, found by both
//! and printed as the tables of `docs/authority.md`.

use std::{fmt::Write as _, sync::Arc};

use eidetica_auth::{Permission, Right};

use crate::{
    case::{Case, Say, Spec, Worlds},
    resolver::Verdict,
    unique::solutions,
    worlds,
};

/// One of each strength, strongest first.
const RIGHTS: [Right; 8] = [
    Right::Recovery,
    Right::Permission(Permission::Admin(0)),
    Right::Permission(Permission::Admin(1)),
    Right::Permission(Permission::Admin(u32::MAX)),
    Right::Permission(Permission::Write(0)),
    Right::Permission(Permission::Write(1)),
    Right::Permission(Permission::Write(u32::MAX)),
    Right::Permission(Permission::Read),
];

const AUTHOR: usize = 1;
const TARGET: usize = 2;
const OTHER: usize = 6;
const ROOT: u128 = 0b1;

/// Does it work? The two rights are those of [`AUTHOR`] and [`TARGET`].
type Operation = fn(&mut Case, Right) -> bool;

const OPERATIONS: [(&str, Operation); 13] = [
    ("grants another key the right", |case, right| {
        says(case, AUTHOR, ROOT, vec![Say::Grant(OTHER, right)])
    }),
    ("delegates with the right as the bound", |case, right| {
        let Right::Permission(bound) = right else {
            return false;
        };
        let (world, floor) = worlds::pin(worlds::TEAM, 0);
        says(
            case,
            AUTHOR,
            ROOT,
            vec![Say::Delegate {
                world,
                bound: Some(bound),
                floor,
            }],
        )
    }),
    (
        "sets the wildcard to the right",
        |case, right| match right {
            Right::Permission(p) if !p.can_admin() => {
                says(case, AUTHOR, ROOT, vec![Say::Wildcard(Some(p))])
            }
            _ => false,
        },
    ),
    (
        "revokes the key: it can do nothing afterwards",
        |case, _| {
            says(case, AUTHOR, ROOT, vec![revoke(TARGET)])
                && !says(case, TARGET, 0b10, vec![Say::Renounce])
        },
    ),
    (
        "revokes the key: what it does meanwhile is void",
        |case, _| {
            says(case, TARGET, ROOT, vec![Say::Renounce])
                && says(case, AUTHOR, ROOT, vec![revoke(TARGET)])
                && case.verdict(1) == Verdict::Void
        },
    ),
    (
        "revokes the key: so is what the key that it rotated to does",
        |case, _| {
            says(case, TARGET, ROOT, vec![Say::Rotate(OTHER)])
                && says(case, OTHER, 0b10, vec![Say::Renounce])
                && says(case, AUTHOR, ROOT, vec![revoke(TARGET)])
                && case.verdict(2) == Verdict::Void
        },
    ),
    ("lowers the key to Write(1)", |case, _| {
        let to = Some(Permission::Write(1));
        says(case, TARGET, ROOT, vec![Say::Renounce])
            && says(
                case,
                AUTHOR,
                ROOT,
                vec![Say::Revoke {
                    key: TARGET,
                    to,
                    cut: None,
                    replaces: 0,
                }],
            )
            && case.verdict(1) == Verdict::Effective(crate::payload::write(1))
    }),
    ("lifts a revocation by the key, with a grant", |case, _| {
        says(case, TARGET, ROOT, vec![revoke(WRITER)])
            && says(
                case,
                AUTHOR,
                0b10,
                vec![Say::Grant(WRITER, Permission::Write(2).into())],
            )
            && case.push(Spec::data(WRITER, 0b100))
    }),
    ("replaces a revocation by the key", |case, _| {
        let replace = Say::Revoke {
            key: WRITER,
            to: None,
            cut: None,
            replaces: 0b10,
        };
        says(case, TARGET, ROOT, vec![revoke(WRITER)]) && says(case, AUTHOR, 0b10, vec![replace])
    }),
    ("adopts what the key made void", |case, _| {
        case.push(Spec::data(WRITER, ROOT))
            && says(case, TARGET, ROOT, vec![revoke(WRITER)])
            && case.verdict(1) == Verdict::Void
            && says(case, AUTHOR, 0b110, vec![Say::Adopt(0b10)])
            && case.verdict(1) != Verdict::Void
    }),
    (
        "raises the wildcard after the key turned it off",
        |case, _| {
            let set = |permission| vec![Say::Wildcard(permission)];
            says(case, TARGET, ROOT, set(None))
                && says(case, AUTHOR, 0b10, set(Some(Permission::Write(1))))
                && case.push(Spec::data(OTHER, 0b100))
        },
    ),
    (
        "makes void what a wildcard of the key let in meanwhile",
        |case, _| {
            says(
                case,
                TARGET,
                ROOT,
                vec![Say::Wildcard(Some(Permission::Write(1)))],
            ) && case.push(Spec::data(OTHER, 0b10))
                && says(case, AUTHOR, ROOT, vec![Say::Wildcard(None)])
                && case.verdict(2) == Verdict::Void
        },
    ),
    (
        "makes void what the key granted meanwhile, by revoking it",
        |case, _| {
            says(
                case,
                TARGET,
                ROOT,
                vec![Say::Grant(OTHER, Permission::Read.into())],
            ) && says(case, OTHER, 0b10, vec![Say::Renounce])
                && says(case, AUTHOR, ROOT, vec![revoke(TARGET)])
                && case.verdict(2) == Verdict::Void
        },
    ),
];

/// A key with `Write(2)`.
const WRITER: usize = 4;

fn revoke(key: usize) -> Say {
    Say::Revoke {
        key,
        to: None,
        cut: None,
        replaces: 0,
    }
}

fn says(case: &mut Case, author: usize, parents: u128, says: Vec<Say>) -> bool {
    case.push(Spec::says(author, parents, says))
}

/// A database with these two rights, what the operation did in it.
fn outcome(operation: Operation, author: Right, target: Right, worlds: &Arc<Worlds>) -> bool {
    let mut case = Case::new(7, worlds);
    let writer = Say::Grant(WRITER, Permission::Write(2).into());
    let named = vec![
        Say::Grant(0, Right::Recovery),
        Say::Grant(AUTHOR, author),
        Say::Grant(TARGET, target),
        writer,
    ];
    assert!(says(&mut case, 0, 0, named));
    let worked = operation(&mut case, target);
    case.verdict(0);
    assert_eq!(solutions(&case.reference, 2).len(), 1, "{case:?}");
    worked
}

/// The tables as they stand in the documentation.
fn tables() -> String {
    let worlds = worlds::standard();
    let mut text = String::new();
    for (title, operation) in OPERATIONS {
        writeln!(text, "\n**An author {title}:**\n").unwrap();
        let head: Vec<String> = RIGHTS.iter().map(|right| name(*right)).collect();
        writeln!(text, "| author \\ key | {} |", head.join(" | ")).unwrap();
        writeln!(text, "|---|{}", "---|".repeat(RIGHTS.len())).unwrap();
        for author in RIGHTS {
            let works = RIGHTS.map(|target| outcome(operation, author, target, &worlds));
            let cells = works.map(|works| if works { "yes" } else { "·" });
            writeln!(text, "| {} | {} |", name(author), cells.join(" | ")).unwrap();
        }
    }
    text
}

/// The least rank is written as n.
fn name(right: Right) -> String {
    right.to_string().replace(&u32::MAX.to_string(), "n")
}

#[test]
fn the_tables_of_author_target_and_operation_are_those_of_the_documentation() {
    let tables = tables();
    let document = include_str!("../../../../docs/authority.md");
    assert!(
        document.contains(&tables),
        "docs/authority.md should contain:\n{tables}"
    );
}
