//! The entry log, against the list of entries that it stands for.

mod crash;
mod damage;
mod format;
mod marks;
mod names;
mod read;
mod stamps;
mod support;
mod write;
