//! Commands that are typed: lines that begin with a slash.

use std::time::Duration;

use crate::address::RoomAddress;
use crate::limits;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slash {
    Create(String),
    Join(RoomAddress),
    GiveUp,
    /// Show the room's address.
    Address,
    /// Make a ticket for so many who are let in without being asked about.
    Invite(u32, Duration),
    Uninvite,
    Requests,
    /// Let the n-th of those in who ask, from 1.
    Approve(usize),
    Reject(usize),
    People,
    /// Show the n-th room, from 1.
    Room(usize),
    Help,
    Quit,
}

/// What can be typed, the keys that do the same, and what it does.
pub(crate) const HELP: &[(&str, &str, &str)] = &[
    ("/create NAME", "", "make a room"),
    ("/join ADDRESS", "", "ask to be let into a room"),
    ("/giveup", "", "stop waiting for a room"),
    ("/room N", "Ctrl-N Ctrl-P Alt-N", "show another room"),
    ("/invite", "Alt-I", "this room's address, to hand over"),
    ("/invite N 7d", "", "let N in unasked, within 7 days"),
    ("/uninvite", "", "take that back"),
    ("/people", "Alt-P", "who is in this room"),
    ("/requests", "Alt-R", "who asks to join"),
    ("/approve N", "Ctrl-Y", "let somebody in"),
    ("/reject N", "Ctrl-X", "refuse somebody"),
    ("/help", "Alt-H F1", "this page"),
    ("/quit", "Ctrl-C", "leave"),
    ("//text", "", "say something that begins with a slash"),
    ("", "Alt-Enter Ctrl-J", "a new line in a message"),
    ("", "Up Down PgUp PgDn", "scroll; Esc goes back to the end"),
];

impl Slash {
    /// Reads a line; `None` if it is a message.
    pub(crate) fn read(line: &str) -> Result<Option<Self>, String> {
        let Some(line) = line.strip_prefix('/').filter(|line| !line.starts_with('/')) else {
            return Ok(None);
        };
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let command = match word {
            "create" if rest.is_empty() => return Err("/create NAME".to_owned()),
            "create" => Self::Create(rest.to_owned()),
            "join" | "connect" => Self::Join(rest.parse()?),
            "giveup" => Self::GiveUp,
            "invite" if rest.is_empty() => Self::Address,
            "invite" => invite(rest)?,
            "uninvite" => Self::Uninvite,
            "people" | "who" => Self::People,
            "requests" => Self::Requests,
            "approve" => Self::Approve(number(rest, Some(1))?),
            "reject" => Self::Reject(number(rest, Some(1))?),
            "room" => Self::Room(number(rest, None)?),
            "help" => Self::Help,
            "quit" | "exit" => Self::Quit,
            _ => {
                return Err(format!(
                    "no command /{word}: /help lists them, // sends a slash"
                ));
            }
        };
        Ok(Some(command))
    }
}

/// How many, and for how long: a number, and `m`, `h` or `d`.
fn invite(text: &str) -> Result<Slash, String> {
    let wrong = || "/invite N TIME, such as /invite 3 7d: m, h or d".to_owned();
    let (count, time) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let count: u32 = count.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    let time = time.trim();
    if time.is_empty() {
        return Ok(Slash::Invite(count, limits::INVITE));
    }
    let seconds = match time.chars().last() {
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 24 * 3_600,
        _ => return Err(wrong()),
    };
    let digits = time.get(..time.len() - 1).unwrap_or_default();
    let number: u64 = digits.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Slash::Invite(count, Duration::from_secs(seconds)))
}

fn number(text: &str, default: Option<usize>) -> Result<usize, String> {
    match (text, default) {
        ("", Some(default)) => Ok(default),
        _ => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| "a number from 1 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_messages_are_not() {
        assert_eq!(Slash::read("hello /quit"), Ok(None));
        assert_eq!(Slash::read("//quit"), Ok(None));
        assert_eq!(Slash::read("/quit"), Ok(Some(Slash::Quit)));
        assert_eq!(
            Slash::read("/create  Tea room "),
            Ok(Some(Slash::Create("Tea room".into())))
        );
        assert_eq!(Slash::read("/approve"), Ok(Some(Slash::Approve(1))));
        assert_eq!(Slash::read("/invite"), Ok(Some(Slash::Address)));
        for (line, count, hours) in [
            ("/invite 3", 3, 24),
            ("/invite 1  2h", 1, 2),
            ("/invite 9 7d", 9, 168),
        ] {
            let invite = Slash::Invite(count, Duration::from_secs(hours * 3_600));
            assert_eq!(Slash::read(line), Ok(Some(invite)));
        }
        assert_eq!(Slash::read("/reject 3"), Ok(Some(Slash::Reject(3))));
        let address = format!("{}@127.0.0.1:4950", "0".repeat(64));
        let join = Slash::Join(address.parse().unwrap());
        assert_eq!(Slash::read(&format!("/join {address}")), Ok(Some(join)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for wrong in [
            "/create",
            "/join",
            "/join here",
            "/room",
            "/room 0",
            "/approve -1",
            "/invite 0",
            "/invite bob",
            "/invite 3 7",
            "/invite 3 7w",
            "/invite 3 0h",
            "/invite 3 \u{fc}",
            "/invite 3 99999999999999999999d",
            "/invite 3 999999999999999999d",
            "/dance",
            "/",
        ] {
            assert!(Slash::read(wrong).is_err(), "{wrong}");
        }
    }
}
