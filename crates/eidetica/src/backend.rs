//! Where an instance keeps its data.

use std::path::Path;
use std::sync::Arc;

pub use eidetica_storage::Engine as Backend;

use crate::{Error, Result};

/// The backends that come with this crate.
pub mod database {
    #[cfg(feature = "fjall")]
    pub use eidetica_storage_fjall::FjallEngine as Fjall;
    #[cfg(feature = "postgres")]
    pub use eidetica_storage_postgres::PostgresEngine as Postgres;
    #[cfg(feature = "redb")]
    pub use eidetica_storage_redb::RedbEngine as Redb;
    #[cfg(feature = "sqlite")]
    pub use eidetica_storage_sqlite::SqliteEngine as Sqlite;

    pub use eidetica_storage::MemoryEngine as InMemory;
}

/// What needs a place.
const SCHEMES: [&str; 5] = ["fjall", "redb", "sqlite", "postgres", "postgresql"];

/// Opens the backend at a location; see [`Instance::connect`](crate::Instance::connect).
pub(crate) fn open(location: &str) -> Result<Arc<dyn Backend>> {
    let wrong = |why| Err(wrong(location, why));
    let (scheme, rest) = match location.split_once(':') {
        Some(("file", path)) => (file_engine(location, path)?, path),
        Some(parts) => parts,
        None => return wrong("it names no backend"),
    };
    match (scheme, rest) {
        ("memory", "") => Ok(Arc::new(database::InMemory::new())),
        ("memory", _) => wrong("nothing follows memory:"),
        (scheme, "") if SCHEMES.contains(&scheme) => wrong("it does not say where"),
        #[cfg(feature = "fjall")]
        ("fjall", path) => Ok(Arc::new(database::Fjall::open(path)?)),
        #[cfg(feature = "redb")]
        ("redb", path) => Ok(Arc::new(database::Redb::open(path)?)),
        #[cfg(feature = "sqlite")]
        ("sqlite", path) => Ok(Arc::new(database::Sqlite::open(path)?)),
        ("postgres" | "postgresql", rest) if !rest.starts_with("//") => {
            wrong("a server is postgres://USER@HOST/DATABASE")
        }
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", _) => Ok(Arc::new(database::Postgres::open(location)?)),
        (scheme, _) if SCHEMES.contains(&scheme) => {
            wrong("this program was built without that backend")
        }
        _ => wrong("it names no backend"),
    }
}

/// The same where something is to be read: a path that is not there is none.
pub(crate) fn open_existing(location: &str) -> Result<Arc<dyn Backend>> {
    let is_path = |scheme| matches!(scheme, "file" | "fjall" | "redb" | "sqlite");
    match location.split_once(':') {
        Some((scheme, path)) if is_path(scheme) && !Path::new(path).exists() => {
            Err(wrong(location, "there is nothing there"))
        }
        _ => open(location),
    }
}

/// The engine of a directory that is one, else the default for new ones.
fn file_engine(location: &str, path: &str) -> Result<&'static str> {
    if path.is_empty() {
        return Err(wrong(location, "it does not say where"));
    }
    #[cfg(any(feature = "fjall", feature = "redb", feature = "sqlite"))]
    match eidetica_storage_dir::engine_of(path.as_ref())?.as_deref() {
        Some("redb") => return Ok("redb"),
        Some("sqlite") => return Ok("sqlite"),
        Some("fjall") => return Ok("fjall"),
        // Whatever it is: opening says so.
        Some(_) | None => {}
    }
    Ok(match () {
        () if cfg!(feature = "fjall") => "fjall",
        () if cfg!(feature = "redb") => "redb",
        () => "sqlite",
    })
}

fn wrong(location: &str, why: &'static str) -> Error {
    Error::Location {
        location: shown(location),
        why,
    }
}

/// What places in the file system, or none, are named by. Whatever else there is may be meant for a server.
const PATHS: [&str; 5] = ["file", "fjall", "redb", "sqlite", "memory"];

/// A location as it may be shown: without the password that the address of a server may hold.
pub fn shown(location: &str) -> String {
    let Some((scheme, rest)) = location
        .split_once(':')
        .filter(|(scheme, _)| !PATHS.contains(scheme))
    else {
        return location.to_owned();
    };
    let address = rest.trim_start_matches('/');
    let slashes = rest.strip_suffix(address).unwrap_or_default();
    let parts = address.split_inclusive(['?', '&']);
    let without: String = parts
        .map(|part| match part.starts_with("password=") {
            true if part.ends_with('&') => "password=***&",
            true => "password=***",
            false => part,
        })
        .collect();
    // A password that was not escaped may hold whatever ends the name of a server.
    let shown = match without.rsplit_once('@') {
        Some((who, host)) => match who.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => without,
        },
        None => without,
    };
    format!("{scheme}:{slashes}{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (location, seen) in [
            ("file:a", "file:a"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            (
                "postgres://u:secret@h:1/d?x=1",
                "postgres://u:***@h:1/d?x=1",
            ),
            ("postgres://u:se@cret@h", "postgres://u:***@h"),
            (
                "postgres://h/d?password=secret&x=1",
                "postgres://h/d?password=***&x=1",
            ),
            ("postgres://u:se/cret@h/d", "postgres://u:***@h/d"),
            ("postgres://u:se?cret@h", "postgres://u:***@h"),
            ("postgres:u:secret@h/d", "postgres:u:***@h/d"),
            ("postgres:/u:secret@h", "postgres:/u:***@h"),
            ("postgers://u:secret@h", "postgers://u:***@h"),
            ("file:a:b@c", "file:a:b@c"),
            (
                "postgres://h?user=u&password=secret",
                "postgres://h?user=u&password=***",
            ),
        ] {
            assert_eq!(shown(location), seen);
        }
    }

    #[test]
    fn a_bad_location_says_what_is_wrong_with_it() {
        for (location, why) in [
            ("", "names no backend"),
            ("./data", "names no backend"),
            ("oracle:x", "names no backend"),
            ("memory:x", "nothing follows"),
            ("file:", "does not say where"),
            ("sqlite:", "does not say where"),
            ("postgres:", "does not say where"),
            ("postgres:host", "postgres://USER@HOST/DATABASE"),
        ] {
            let error = open(location).err().map(|error| error.to_string());
            let said = error.as_deref().unwrap_or_default();
            assert!(said.contains(why) && said.contains("file:PATH"), "{said}");
        }
    }
}
