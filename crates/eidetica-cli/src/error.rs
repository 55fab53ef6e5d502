//! What goes wrong on the command line: a message, a hint, and the exit code that scripts can rely on.

use std::fmt;

use crate::escape::escape;

/// Exit codes, as `eidetica --help` documents them. Usage errors exit with 2, by clap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Anything that has no code of its own.
    Failed = 1,
    /// A database, user, row, file or data directory that is not there.
    NotFound = 3,
    /// A wrong password, a missing right, a rejected request.
    Denied = 4,
    /// A file or value that does not parse.
    BadInput = 5,
    /// A peer that does not answer, a port in use, a data directory open elsewhere: try again later.
    Unavailable = 6,
    /// Stored data that is damaged or foreign.
    Corrupt = 7,
    /// Access was requested and waits for approval.
    Pending = 8,
}

impl Code {
    /// The name used in `--json` output.
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::BadInput => "bad_input",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Pending => "pending",
        }
    }
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    broken_pipe: bool,
}

/// The result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            broken_pipe: false,
        }
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was attempted before the message: `cannot open x: <message>`.
    pub(crate) fn context(mut self, attempted: impl fmt::Display) -> Self {
        self.message = format!("{attempted}: {}", self.message);
        self
    }

    /// Whether it says what to do.
    pub(crate) fn has_hint(&self) -> bool {
        self.hint.is_some()
    }

    /// Whether standard output was closed by its reader.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }

    fn of_backup(
        error: &eidetica::backup::BackupError,
        blame: eidetica::Blame,
        message: String,
    ) -> Self {
        use eidetica::{Blame, backup::BackupError as B};
        match error {
            B::NotABackup => {
                Self::new(Code::BadInput, message).hint("`eidetica backup FILE` makes one")
            }
            B::NewerFormat { .. } | B::NewerRows { .. } => Self::new(Code::BadInput, message),
            B::Truncated { .. } | B::Damaged { .. } => Self::new(Code::Corrupt, message)
                .hint("nothing was restored; another copy of the backup may be whole"),
            B::NothingThere => Self::new(Code::NotFound, message),
            B::NotEmpty { .. } => Self::new(Code::Failed, message).hint("name an empty place"),
            B::OtherUnfinished => Self::new(Code::Failed, message)
                .hint("--start-over takes away first what it has left"),
            _ => match blame {
                Blame::Unavailable => Self::new(Code::Unavailable, message),
                Blame::Corrupt => Self::new(Code::Corrupt, message),
                _ => Self::new(Code::Failed, message),
            },
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Prints to standard error: two lines for people, one JSON object for programs.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let value = serde_json::json!({
                "error": self.message, "code": self.code.name(), "exit_code": self.code as u8, "hint": self.hint,
            });
            eprintln!("{}", crate::output::json_text(&value));
            return;
        }
        eprintln!("error: {}", escape(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", escape(hint));
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<eidetica::Error> for Error {
    fn from(error: eidetica::Error) -> Self {
        use eidetica::{Blame, Error as E};
        let message = error.to_string();
        match &error {
            E::Login => Self::new(Code::Denied, message)
                .hint("set EIDETICA_PASSWORD, or run on a terminal to be asked"),
            E::Passphrase => Self::new(Code::Denied, message)
                .hint("the passphrase is that of the export; a text that was altered does not open either"),
            E::SealedKey(_) => Self::new(Code::BadInput, message)
                .hint("`eidetica user key export KEY` prints one"),
            E::WeakPassphrase => Self::new(Code::BadInput, message)
                .hint("whoever gets the text can guess for ever: some unrelated words are better than one"),
            E::NoAccess(_) => Self::new(Code::Denied, message)
                .hint("`eidetica sync ADDRESS DB` asks a peer for access"),
            E::Database(eidetica::DatabaseError::Refused(_)) => {
                Self::new(Code::Denied, message).hint("`eidetica db info DB` says who may do what")
            }
            E::Database(eidetica::DatabaseError::NotAllowed(_)) => Self::new(Code::Denied, message)
                .hint("--as KEY signs with another key of yours, such as `recovery`"),
            E::Database(eidetica::DatabaseError::LastOwner { .. }) => Self::new(Code::Denied, message)
                .hint("grant admin:0 to another key first, or say --last-owner"),
            E::Database(eidetica::DatabaseError::Incomplete { held: false, .. } | eidetica::DatabaseError::NotHeld { .. }) => {
                Self::new(Code::Failed, message).hint("`eidetica db hold DB --stores ..` or `--all` holds it here")
            }
            E::Database(eidetica::DatabaseError::NoEntry(_)) => {
                Self::new(Code::NotFound, message).hint("`eidetica log DB` lists entries")
            }
            E::AccessDenied(_) => Self::new(Code::Denied, message)
                .hint("the request was refused, or there is no such database there: a stranger is not told which"),
            E::BootstrapPending { .. } => Self::new(Code::Pending, message)
                .hint("an administrator of the database has to approve it; then run the same command again, or wait with --wait"),
            E::Address(_) => Self::new(Code::BadInput, message).hint("an address has the form host:port or iroh://.."),
            E::InviteEnded(_) => Self::new(Code::Denied, message)
                .hint("ask whoever shared the database for another ticket"),
            E::InviteRight(_) => Self::new(Code::Denied, message)
                .hint("`eidetica db info DB` says what your key may do"),
            E::Ticket(_) => Self::new(Code::BadInput, message)
                .hint("copy the whole ticket, from eidetica: to its last letter"),
            E::Location { .. } => Self::new(Code::BadInput, message),
            E::Backup(backup) => Self::of_backup(backup, error.blame(), message),
            E::NoSuchKey(_) | E::NotTracked(_) | E::NotRevoked(_) => Self::new(Code::NotFound, message),
            E::InUse { .. } => Self::new(Code::Failed, message).hint("--force forgets it all the same"),
            E::Database(eidetica::DatabaseError::Full { .. }) => Self::new(Code::Failed, message)
                .hint("`eidetica db quota DB LIMIT` makes room"),
            E::Database(eidetica::DatabaseError::Repairing(_)) => Self::new(Code::Corrupt, message)
                .hint("`eidetica repair` goes on with it"),
            E::NoDatabase(_) => {
                Self::new(Code::NotFound, message).hint("`eidetica db list` shows what is here")
            }
            _ => match error.blame() {
                Blame::Corrupt => {
                    Self::new(Code::Corrupt, message).hint("`eidetica verify` says what is damaged")
                }
                Blame::Unavailable if matches!(error, E::Sync(_)) => Self::new(Code::Unavailable, message)
                    .hint("is `eidetica serve` running there, and is the address right?"),
                Blame::Unavailable => Self::new(Code::Unavailable, message),
                Blame::Peer => Self::new(Code::Failed, message)
                    .hint("that peer is not the one you mean, or not sound; nothing wrong was taken from it"),
                _ => Self::new(Code::Failed, message),
            },
        }
    }
}

impl From<eidetica::DatabaseError> for Error {
    fn from(error: eidetica::DatabaseError) -> Self {
        eidetica::Error::from(error).into()
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::Denied,
            std::io::ErrorKind::AddrInUse | std::io::ErrorKind::WouldBlock => Code::Unavailable,
            _ => Code::Failed,
        };
        let broken_pipe = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self {
            broken_pipe,
            ..Self::new(code, error.to_string())
        }
    }
}
