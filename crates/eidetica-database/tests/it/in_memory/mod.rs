//! Tests that work on an engine in memory, wherever the test matrix is at: it runs them once.

mod attacks;
mod care;
mod costs;
pub(crate) mod damage;
