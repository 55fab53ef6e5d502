//! The redb storage engine.
