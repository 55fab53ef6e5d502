//! The files of an authenticated database in a directory: [`DirDisk`].
//!
//! The directory is private, labelled and locked like those of the storage engines
//! ([`eidetica_storage_dir`]); the files are in its subdirectory `data`.
//!
//! This crate knows nothing of what is in the files.

mod disk;

pub use disk::DirDisk;
