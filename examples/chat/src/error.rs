//! What goes wrong, and what to do about it.

use std::fmt;

use eidetica::{Blame, text::escape};

/// A failure to tell a person of.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    hint: Option<String>,
}

/// The result of this program.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
        }
    }

    /// Says what to do about it, unless something better is said already.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Puts what was attempted before the message: `cannot listen: <message>`.
    pub(crate) fn context(mut self, attempted: impl fmt::Display) -> Self {
        self.message = format!("{attempted}: {}", self.message);
        self
    }

    /// Prints it to standard error.
    pub(crate) fn print(&self) {
        eprintln!("error: {}", escape(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", escape(hint));
        }
    }
}

/// On one line, for the screen.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl From<eidetica::Error> for Error {
    fn from(error: eidetica::Error) -> Self {
        let hint = hint(&error);
        Self {
            message: error.to_string(),
            hint: hint.map(str::to_owned),
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
        Self::new(error)
    }
}

fn hint(error: &eidetica::Error) -> Option<&'static str> {
    use eidetica::{DatabaseError, Error as E};
    Some(match error {
        E::Login => "that user has a password: set EIDETICA_PASSWORD",
        E::AccessDenied(_) => {
            "you were refused, or there is no such room: a stranger is not told which"
        }
        E::InviteEnded(_) => "ask for another one",
        E::NoAccess(_) => "ask an administrator of the room to let you in",
        E::Database(DatabaseError::Refused(_) | DatabaseError::NotAllowed(_)) => {
            "an administrator of the room can give you the right"
        }
        E::Sync(_) if error.blame() == Blame::Unavailable => {
            "is the chat running there, and is the address right?"
        }
        _ if error.blame() == Blame::Corrupt => "the data directory is damaged or something else's",
        _ => return None,
    })
}
