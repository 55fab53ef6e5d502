//! The `eidetica` command line.

fn main() {}
