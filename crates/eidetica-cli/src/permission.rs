//! Permissions as a person types them: `read`, `write`, `write:RANK`, `admin`, `admin:RANK`; `Write(10)` too, as they are
//! shown.

use eidetica::auth::Permission;

/// The rank unless one is named: weak enough that any admin may grant it.
const RANK: u32 = 10;

/// Reads a permission, for clap.
pub(crate) fn permission(text: &str) -> Result<Permission, String> {
    if let Ok(permission) = text.parse() {
        return Ok(permission);
    }
    let (word, rank) = match text.split_once(':') {
        None => (text, RANK),
        Some((word, rank)) => (
            word,
            rank.parse()
                .map_err(|_| "the rank after the colon is a number".to_owned())?,
        ),
    };
    match word {
        "read" => Ok(Permission::Read),
        "write" => Ok(Permission::Write(rank)),
        "admin" => Ok(Permission::Admin(rank)),
        _ => Err("expected read, write, write:RANK, admin or admin:RANK".to_owned()),
    }
}

/// Reads what every key may do: a permission that is no admin's, or `none`.
pub(crate) fn wildcard(text: &str) -> Result<Wildcard, String> {
    if text == "none" {
        return Ok(Wildcard(None));
    }
    match permission(text)? {
        Permission::Admin(_) => Err("expected none, read, write or write:RANK".to_owned()),
        permission => Ok(Wildcard(Some(permission))),
    }
}

/// What every key may do. Its own type, since clap reads an `Option` as an argument that may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wildcard(pub(crate) Option<Permission>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_have_a_rank() {
        assert_eq!(permission("read"), Ok(Permission::Read));
        assert_eq!(permission("write"), Ok(Permission::Write(10)));
        assert_eq!(permission("admin:3"), Ok(Permission::Admin(3)));
        assert_eq!(permission("Write(7)"), Ok(Permission::Write(7)));
        for bad in [
            "", "owner", "write:", "write:x", "write:-1", "write(1)", "Recovery",
        ] {
            assert!(permission(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn everybody_may_write_at_most() {
        assert_eq!(wildcard("none"), Ok(Wildcard(None)));
        assert_eq!(
            wildcard("write:2"),
            Ok(Wildcard(Some(Permission::Write(2))))
        );
        assert!(wildcard("admin").is_err() && wildcard("everything").is_err());
    }
}
