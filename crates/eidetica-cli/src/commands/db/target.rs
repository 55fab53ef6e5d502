//! Which database a command is about, and by which key.

use eidetica::{Database, User};

use crate::context::Context;
use crate::error::Result;

/// The database, and by which key.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// The database: its name or id
    db: String,
    /// Act by this key of yours, by id or name, such as `recovery` [default: the one that may do most, recovery aside]
    #[arg(long = "as", value_name = "KEY")]
    signer: Option<String>,
}

impl Target {
    pub(crate) fn open(&self, context: &Context) -> Result<(User, Database)> {
        context.database_by(&self.db, self.signer.as_deref())
    }
}
