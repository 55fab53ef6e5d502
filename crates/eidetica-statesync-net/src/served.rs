//! A database as a server shows it.

use std::ops::Range;
use std::sync::Arc;

use eidetica_auth::SecretKey;
use eidetica_authdb::{Any, Error, Immutable, ProvenRange};
use eidetica_entry::{PublicKey, Signature};
use eidetica_mmr::{Consistency, Digest, Leaves, Location};
use eidetica_statesync::{Claim, DatabaseName, Refusal, Serve, Shown, Target, Trust, signed_bytes};
use parking_lot::RwLock;

/// What both types of database have, as far as it is served.
pub trait Authdb: Send + Sync + 'static {
    /// How many operations there are.
    fn leaves(&self) -> Leaves;
    /// How many of them are durable.
    fn committed(&self) -> Leaves;
    /// The root of all.
    fn root(&self) -> Digest;
    /// From where on operations are needed.
    fn lower(&self) -> Location;
    /// Operations and their proof against the root at a size.
    ///
    /// # Errors
    /// The database's.
    fn historical_proof(
        &self,
        leaves: Leaves,
        range: Range<Location>,
        most_bytes: usize,
    ) -> Result<ProvenRange, Error>;
    /// That one size is the beginning of another.
    ///
    /// # Errors
    /// The database's.
    fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Error>;
}

macro_rules! authdb {
    ($database:ident, $lower:ident) => {
        impl Authdb for $database {
            fn leaves(&self) -> Leaves {
                $database::leaves(self)
            }
            fn committed(&self) -> Leaves {
                $database::committed(self)
            }
            fn root(&self) -> Digest {
                $database::root(self)
            }
            fn lower(&self) -> Location {
                $database::$lower(self)
            }
            fn historical_proof(
                &self,
                leaves: Leaves,
                range: Range<Location>,
                most_bytes: usize,
            ) -> Result<ProvenRange, Error> {
                $database::historical_proof(self, leaves, range, most_bytes)
            }
            fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Error> {
                $database::consistency(self, old, new)
            }
        }
    };
}

authdb!(Any, floor);
authdb!(Immutable, boundary);

/// A database that is written by one and served to many, with the key that signs its targets.
///
/// Served is what is durable: whoever writes commits before the lock is released.
pub struct Served<D> {
    name: DatabaseName,
    database: RwLock<D>,
    signer: Option<SecretKey>,
}

impl<D: Authdb> Served<D> {
    /// Serves a database under a name that its clients know.
    #[must_use]
    pub fn new(name: DatabaseName, database: D, signer: Option<SecretKey>) -> Self {
        let database = RwLock::new(database);
        Self {
            name,
            database,
            signer,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// Looks at it.
    pub fn read<R>(&self, look: impl FnOnce(&D) -> R) -> R {
        look(&self.database.read())
    }

    /// Changes it. Nobody is served meanwhile.
    pub fn write<R>(&self, change: impl FnOnce(&mut D) -> R) -> R {
        change(&mut self.database.write())
    }
}

impl<D: Authdb> Serve for Served<D> {
    fn claim(&self) -> Result<Option<Claim>, Refusal> {
        let database = self.database.read();
        let leaves = database.leaves();
        if leaves.0 == 0 {
            return Ok(None);
        }
        if leaves != database.committed() {
            return Err(Refusal::Unavailable);
        }
        let target = Target::new(database.root(), database.lower(), leaves);
        drop(database);
        let target = target.map_err(|_| Refusal::Unavailable)?;
        let sign = |signer: &SecretKey| *signer.sign(&signed_bytes(&self.name, &target)).as_bytes();
        let signature = self.signer.as_ref().map(sign);
        Ok(Some(Claim { target, signature }))
    }

    fn operations(
        &self,
        size: Leaves,
        range: Range<Location>,
        most_bytes: usize,
    ) -> Result<Shown, Refusal> {
        let proven = self
            .database
            .read()
            .historical_proof(size, range, most_bytes);
        let proven = proven.map_err(|error| refusal(&error))?;
        Ok(Shown {
            proof: proven.proof,
            count: proven.operations.len(),
            operations: proven.operations.as_bytes().to_vec(),
        })
    }

    fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Refusal> {
        let proven = self.database.read().consistency(old, new);
        proven.map_err(|error| refusal(&error))
    }
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::OutOfBounds { leaves, .. } => Refusal::NotYet { leaves: *leaves },
        Error::Pruned { boundary, .. } => Refusal::Pruned {
            boundary: *boundary,
        },
        Error::Request => Refusal::Impossible,
        error => {
            tracing::error!(%error, "a request cannot be answered");
            Refusal::Unavailable
        }
    }
}

/// Trust in targets that this key has signed.
#[must_use]
pub fn signed_by(signer: PublicKey) -> Trust {
    Trust::Signer(Arc::new(move |message, signature| {
        eidetica_auth::verify(&signer, message, &Signature::new(*signature))
    }))
}
