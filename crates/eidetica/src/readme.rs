//! The programs in the README and in the guide to rights, compiled and run with the documentation tests.
#![doc = include_str!("../../../README.md")]
#![doc = include_str!("../../../docs/guide/authority.md")]
