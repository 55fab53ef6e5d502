//! Tests of `eidetica` through its public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod backup;
mod callbacks;
mod disk;
mod guide;
mod keys;
mod live;
mod nodes;
mod secrets;
mod sparse;
mod sync;
mod tickets;
mod tracking;
mod users;

use eidetica::{Database, Instance, User, crdt::Doc};

use self::disk::Disk;

fn instance() -> Instance {
    Disk::new().open()
}

/// A new passwordless user, logged in.
fn user(instance: &Instance, name: &str) -> User {
    instance.create_user(name, None).unwrap();
    instance.login_user(name, None).unwrap()
}

fn named(name: &str) -> Doc {
    let mut settings = Doc::new();
    settings.set_string("name", name);
    settings
}

fn database(user: &User, name: &str) -> Database {
    user.create_database(named(name), user.get_default_key().unwrap())
        .unwrap()
}

fn write(database: &Database, path: &str, value: &str) -> eidetica::Result<()> {
    let op = database.new_operation()?;
    op.doc("data")?.set(path, value)?;
    op.commit()?;
    Ok(())
}

fn read(database: &Database, path: &str) -> Option<String> {
    database.doc("data").unwrap().get_as(path).unwrap()
}
