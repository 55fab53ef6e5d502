//! The PostgreSQL storage engine: one table in a schema of its own, shared by any number of processes.
//!
//! [`PostgresEngine`] keeps the engine contract on top of a server that its operators already run. It blocks like
//! every engine and needs no async runtime around it: one thread of its own drives the connections, another one
//! calls the hints of `watch`.
//!
//! **Writing.** A batch is one statement, a call of a function in the schema, whatever its size. The server runs
//! it as one transaction: it locks the expected rows, compares, clears, deletes and puts. No lock ever waits for a client,
//! so a process that hangs or dies holds nothing up. Batches of points run beside each other; one that clears
//! ranges or expects a row to be absent runs alone, since there is no row to lock.
//!
//! **Reading.** A snapshot is a read-only transaction at `REPEATABLE READ` on a connection from a pool; a
//! `multi_get` and a page of a scan are one statement each.
//!
//! **Hints.** One more connection listens for what other processes wrote and tells them, once for many writes and
//! outside of the writes' own transactions, since a notification in a transaction would let commits
//! pass one by one. A process that dies between a write and its notification leaves no hint.
//!
//! **When the server goes away.** A connection that was lost while nobody used it is replaced, and
//! connecting is tried again for [`PostgresOptions::patience`]. A snapshot whose connection is lost answers with an error,
//! and the next snapshot connects anew. A *write* whose connection is lost before the answer came
//! may or may not have taken effect: that poisons the engine, as the contract says, and whoever opens it again sees
//! which. A deadlock or a serialization failure is certain to have changed nothing and is tried again here.
//!
//! **Durability** is the server's: `synchronous_commit` is on for durable batches (or what the server is set to beyond
//! that) and off for relaxed ones. A server with `fsync = off` keeps no promise.
//!
//! **Security.** Connections are not encrypted unless [`PostgresEngine::open_with_tls`] is given a
//! connector; without one, use a Unix socket, the loopback interface or a network that nobody else is on. What is stored is
//! protected by the rights of the server: others need `USAGE` on the schema to see anything.

mod engine;
mod listen;
mod options;
mod pool;
mod schema;
mod wait;

pub use engine::{PostgresEngine, remove};
pub use options::PostgresOptions;
