//! `eidetica db forget` and `eidetica db quota`: whether a database is here, and how much of it may be.

use std::io::{BufRead, IsTerminal, Write};

use eidetica::Quota;

use crate::context::{Context, name_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::{bytes, count, counted};
use crate::progress::Progress;

/// Arguments of `forget`.
#[derive(clap::Args)]
#[command(after_help = "\
The database is forgotten here alone: whoever else has it keeps it, and finds it absent here. What only this instance has is \
lost. `eidetica compact` gives the space back where the engine does not do so by itself.")]
pub(crate) struct Forget {
    /// The database: its name or id
    db: String,
    /// Though other users of this instance track it
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `quota`.
#[derive(clap::Args)]
#[command(after_help = "\
What does not fit is refused: changes before they are made, entries of peers until there is room. The limit is this instance's \
own; peers do not hear of it.")]
pub(crate) struct SetQuota {
    /// The database: its name or id
    db: String,
    /// Bytes of entries that it may hold, such as 500MB or 2GiB; `none` for no limit; left out, the limit is shown
    limit: Option<Limit>,
}

/// A number of bytes, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(Option<u64>);

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text
            .get(digits.len()..)
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            other => {
                return Err(format!(
                    "no unit {other}: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
                ));
            }
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "a whole number and a unit, or `none`".to_owned())?;
        let limit = number
            .checked_mul(unit)
            .ok_or_else(|| "too large".to_owned())?;
        Ok(Self(Some(limit)))
    }
}

pub(super) fn forget(args: &Forget, context: &Context) -> Result<()> {
    let user = context.login()?;
    let found = crate::context::find_database(&user, &args.db);
    let (id, name, entries) = match found {
        Ok(database) => (
            database.root_id(),
            name_of(&database)?,
            Some(database.entry_count()?),
        ),
        // What cannot be read, or is not the user's to read, can go too, by its whole id.
        Err(error) => match args.db.parse() {
            Ok(id) if user.instance().list_databases()?.contains(&id) => (id, String::new(), None),
            _ => return Err(error),
        },
    };
    if !args.yes {
        confirm(&name, &id.to_string(), entries, context)?;
    }
    let progress = Progress::spinner(context.output, "forgetting");
    let forgotten = user.forget_database(id, args.force)?;
    drop(progress);
    let value = serde_json::json!({
        "id": id.to_string(), "rows": forgotten.rows, "row_bytes": forgotten.bytes, "keeps_authority": forgotten.keeps_authority,
    });
    context.output.result(&value, || {
        let mut text = format!(
            "forgot {id}: {} rows of {}",
            count(forgotten.rows),
            bytes(forgotten.bytes)
        );
        if forgotten.keeps_authority {
            text += "\nits settings stay, because other databases here delegate to it";
        }
        text
    })
}

/// Asks a person whether to go on.
fn confirm(name: &str, id: &str, entries: Option<u64>, context: &Context) -> Result<()> {
    if context.output.is_json() || !std::io::stdin().is_terminal() {
        return Err(
            Error::new(Code::Failed, "nothing was forgotten").hint("--yes forgets without asking")
        );
    }
    let mut out = std::io::stderr().lock();
    let what = entries.map_or_else(String::new, |n| {
        format!(" with {}", counted(n, "entry", "entries"))
    });
    write!(
        out,
        "Forget {} {id}{what}, here alone? [y/N] ",
        escape(name)
    )?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::new(Code::Failed, "nothing was forgotten")),
    }
}

pub(super) fn quota(args: &SetQuota, context: &Context) -> Result<()> {
    let (_user, database) = context.database(&args.db)?;
    if let Some(Limit(limit)) = args.limit {
        database.set_quota(limit).map_err(eidetica::Error::from)?;
    }
    let quota = database.quota().map_err(eidetica::Error::from)?;
    let value = serde_json::json!({
        "id": database.root_id().to_string(),
        "limit": quota.map(|quota| quota.limit), "bytes": quota.map(|quota| quota.bytes),
    });
    context.output.result(&value, || shown(quota))
}

/// A quota in words.
pub(super) fn shown(quota: Option<Quota>) -> String {
    match quota {
        Some(quota) => format!("{} of {}", bytes(quota.bytes), bytes(quota.limit)),
        None => "no limit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let parse = |text: &str| text.parse::<Limit>().map(|limit| limit.0).ok();
        assert_eq!(parse("none"), Some(None));
        assert_eq!(parse("1500"), Some(Some(1_500)));
        assert_eq!(parse("2kB"), Some(Some(2_000)));
        assert_eq!(parse("2KiB"), Some(Some(2_048)));
        assert_eq!(parse("3gib"), Some(Some(3 << 30)));
        for bad in [
            "",
            "MB",
            "1.5MB",
            "-1",
            "1XB",
            "99999999999999999999",
            "99999999999TiB",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
