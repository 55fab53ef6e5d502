//! The engine trait, the memory engine and the entry log.
