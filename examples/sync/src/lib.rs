//! Two programs that keep a copy of a growing authenticated database, everything proven: `server` and `client`.
//!
//! What they do is in the README beside; what they are made of is [`eidetica_authdb`], [`eidetica_statesync`] and
//! [`eidetica_statesync_net`]. Here is the rest of a program: options, a workload, log lines, metrics, signals.

pub mod client;
pub mod growing;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod options;
pub mod output;
pub mod server;
pub mod signals;
pub mod storage;
pub mod watching;
pub mod workload;
