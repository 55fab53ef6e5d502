//! Tests of `eidetica-auth` through its public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod claims;
mod form;
mod judge;
mod keys;
mod laws;
mod permissions;
mod records;
mod rules;
mod seal;
mod signatures;
mod state;
mod threats;
mod world;

use eidetica_auth::{AuthRecord, KeyName, Permission, Right, SecretKey};
use eidetica_entry::Id;

/// The secret key number `n`.
fn secret(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn id(n: u8) -> Id {
    Id::new([n; 32])
}

/// A record that gives key number `n` this right.
fn gives(n: u8, right: impl Into<Right>) -> AuthRecord {
    AuthRecord::Grant {
        key: secret(n).public(),
        right: right.into(),
        name: name(""),
    }
}

/// One of each strength, strongest first.
const RIGHTS: [Right; 8] = [
    Right::Recovery,
    Right::Permission(Permission::Admin(0)),
    Right::Permission(Permission::Admin(1)),
    Right::Permission(Permission::Admin(u32::MAX)),
    Right::Permission(Permission::Write(0)),
    Right::Permission(Permission::Write(1)),
    Right::Permission(Permission::Write(u32::MAX)),
    Right::Permission(Permission::Read),
];

/// Calls `check` with `bytes`, one bit of them flipped, for every bit.
fn for_every_flipped_bit(bytes: &[u8], mut check: impl FnMut(&[u8], usize)) {
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, bit);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
