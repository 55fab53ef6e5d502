//! The programs in the README and in the guides to rights and to operations, compiled and run with the documentation tests.
#![doc = include_str!("../../../README.md")]
#![doc = include_str!("../../../docs/guide/authority.md")]
#![doc = include_str!("../../../docs/guide/operations.md")]
