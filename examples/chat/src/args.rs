//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

use crate::address::RoomAddress;

const AFTER_HELP: &str = "\
Two terminals on one machine:
  eidetica-chat --username alice --transport http --create-only --room-name \"Demo\"
  eidetica-chat --username bob --transport http --connect \"ROOM_ID@127.0.0.1:PORT\"

Without --create-only the first one has a screen too.";

/// Chat rooms, each a database that its members share without a server in the middle
#[derive(Parser, Clone, Debug)]
#[command(name = "eidetica-chat", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Args {
    /// Who you are: the name that others see beside your key
    #[arg(long, env = "USER", value_name = "NAME")]
    pub(crate) username: String,
    /// How to reach others
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub(crate) transport: Transport,
    /// Create a room, print its address and serve it from here, without a screen
    #[arg(long, conflicts_with_all = ["connect", "address"])]
    pub(crate) create_only: bool,
    /// The room to create; the one that you own already is taken if it has this name
    #[arg(long, value_name = "NAME")]
    pub(crate) room_name: Option<String>,
    /// The room to join, by the address that its creator was shown
    #[arg(long, value_name = "ROOM_ID@HOST:PORT")]
    connect: Option<RoomAddress>,
    /// The same as --connect
    #[arg(value_name = "ROOM_ID@HOST:PORT", conflicts_with = "connect")]
    address: Option<RoomAddress>,
    /// Keep everything in this directory; otherwise it is in memory and gone at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1 and a free port, the same one again for a data directory]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// With Iroh, what carries that cannot go directly: default, staging, disabled, or URLs of relays
    #[arg(long, value_name = "RELAYS", default_value = "default")]
    pub(crate) relays: String,
    /// Write the library's log to a file; twice for more
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Args {
    /// The room to join.
    pub(crate) fn room(&self) -> Option<&RoomAddress> {
        self.connect.as_ref().or(self.address.as_ref())
    }
}

/// How to reach others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Within reach of an address: the same machine, the same network, a server
    Http,
    /// Anywhere, through NAT
    Iroh,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_guides_command_lines_are_read() {
        Args::command().debug_assert();
        let line = [
            "chat",
            "--username",
            "alice",
            "--transport",
            "http",
            "--create-only",
        ];
        let args = Args::parse_from(line.iter().chain(&["--room-name", "Demo"]));
        assert!(args.create_only && args.room().is_none());
        assert_eq!(args.room_name.as_deref(), Some("Demo"));
        let address = format!("{}@127.0.0.1:4950", "0".repeat(64));
        for room in [vec!["--connect", &address], vec![&address]] {
            let start = ["chat", "--username", "bob", "--transport", "iroh", "-v"];
            let args = Args::parse_from(start.into_iter().chain(room));
            assert_eq!(args.room().unwrap().to_string(), address);
            assert_eq!((args.transport, args.verbose), (Transport::Iroh, 1));
        }
        assert!(Args::try_parse_from(["chat", "--username", "bob", "nonsense"]).is_err());
    }
}
