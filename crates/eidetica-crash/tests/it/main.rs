//! A sample of what `cargo xtask crash` does in full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::PathBuf;

use eidetica_crash::preload::{Preload, What};
use eidetica_crash::{fault, full, kill, power};
use eidetica_testkit::{EngineKind, PostgresServer};

/// Places of a run at which something fails.
const PLACES: u64 = 12;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_eidetica-crash"))
}

/// Runs a test with the library that makes faults, or says that it cannot.
fn with_preload(test: impl FnOnce(&Preload)) {
    let dir = tempfile::tempdir().unwrap();
    match Preload::build(dir.path()) {
        Ok(preload) => test(&preload),
        Err(reason) => eprintln!("==> NOT tested: {reason}"),
    }
}

fn killed(kind: EngineKind, cycles: u64) {
    let tally = kill::kill(&kill::Plan {
        program: program(),
        kind,
        cycles,
        seed: 7,
        sync: false,
    })
    .unwrap();
    assert_eq!(tally.cycles, cycles);
    assert!(tally.kept > cycles, "{tally:?}");
}

/// About as many places as [`PLACES`], spread over the run, of everything that can fail.
fn failed(kind: EngineKind) {
    with_preload(|preload| {
        for what in What::ALL {
            let mut plan = fault::Plan {
                program: program(),
                preload: preload.clone(),
                kind,
                what,
                first: u64::MAX,
                every: u64::MAX,
            };
            let operations = fault::fail_each(&plan).unwrap().operations;
            plan.every = (operations / PLACES).max(1);
            plan.first = plan.every / 2;
            let tally = fault::fail_each(&plan).unwrap();
            assert!(tally.refused + tally.aborted > 0, "{what:?}: {tally:?}");
        }
    });
}

fn cut_off(kind: EngineKind) {
    with_preload(|preload| {
        let tally = power::cut(&power::Plan {
            program: program(),
            preload: preload.clone(),
            kind,
            moments: 30,
            seed: 5,
        })
        .unwrap();
        assert_eq!(tally.moments, 30);
        assert!(tally.kept > 0);
    });
}

fn filled(kind: EngineKind) {
    match full::fill(&program(), kind, 48).unwrap() {
        Ok(kept) => assert!(kept > 0),
        Err(full::Unavailable(reason)) => eprintln!("==> NOT tested on a full disk: {reason}"),
    }
}

macro_rules! on_each_file_engine {
    ($($engine:ident: $kind:ident),*) => {
        $(mod $engine {
            use super::*;

            #[test]
            fn killed_workers_leave_what_was_acknowledged() {
                killed(EngineKind::$kind, 20);
            }

            #[test]
            fn any_failing_operation_leaves_what_was_acknowledged() {
                failed(EngineKind::$kind);
            }

            #[test]
            fn lost_torn_and_reordered_writes_leave_what_was_synced() {
                cut_off(EngineKind::$kind);
            }

            #[test]
            fn a_full_disk_is_an_error_and_loses_nothing() {
                filled(EngineKind::$kind);
            }

            #[test]
            fn a_second_process_is_kept_out() {
                kill::one_at_a_time(&program(), EngineKind::$kind).unwrap();
            }
        })*
    };
}

on_each_file_engine!(fjall: Fjall, redb: Redb, sqlite: Sqlite);

mod postgres {
    use super::*;

    #[test]
    fn killed_clients_and_servers_leave_what_was_acknowledged() {
        match PostgresServer::available() {
            Ok(()) => killed(EngineKind::Postgres, 10),
            Err(reason) => eprintln!("==> NOT tested on PostgreSQL: {reason}"),
        }
    }
}
