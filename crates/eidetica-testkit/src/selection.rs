//! Which engine a test that works on any runs on.

/// The environment variable by which the test matrix selects an engine: `memory`, `fjall` or `redb`.
pub const TEST_ENGINE: &str = "EIDETICA_TEST_ENGINE";

/// The engines of the test matrix. A test opens them; the testkit depends on none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// In memory.
    Memory,
    /// fjall, in a directory.
    Fjall,
    /// redb, in a directory.
    Redb,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Fjall, Self::Redb];
}

/// The engine that [`TEST_ENGINE`] selects; memory if it is not set.
///
/// # Panics
/// A value that is no engine.
#[must_use]
pub fn selected_engine() -> EngineKind {
    match std::env::var(TEST_ENGINE).as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("memory") => EngineKind::Memory,
        Ok("fjall") => EngineKind::Fjall,
        Ok("redb") => EngineKind::Redb,
        other => panic!("{TEST_ENGINE} is memory, fjall or redb, not {other:?}"),
    }
}
