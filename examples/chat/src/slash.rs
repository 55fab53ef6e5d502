//! Commands that are typed: lines that begin with a slash.

use crate::address::RoomAddress;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slash {
    Create(String),
    Join(RoomAddress),
    GiveUp,
    Invite,
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
            "invite" => Self::Invite,
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
            "/dance",
            "/",
        ] {
            assert!(Slash::read(wrong).is_err(), "{wrong}");
        }
    }
}
