//! The program in the README, compiled and run with the documentation tests.
#![doc = include_str!("../../../README.md")]
