//! The `eidetica` command line: everything the library does, for people and for scripts.

#![allow(dead_code)]
mod error;
mod escape;
mod limits;
mod output;
mod progress;
mod read;

fn main() {}
