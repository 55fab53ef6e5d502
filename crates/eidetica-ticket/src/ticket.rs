//! What a ticket says.

use std::{fmt, str::FromStr};

use eidetica_auth::{Permission, SecretKey};
use eidetica_entry::{Id, PublicKey};
use eidetica_transport::Address;

use crate::{TicketError, decode, encode, limits};

/// Where a database is, who must be there, and perhaps the right to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    database: Id,
    device: PublicKey,
    addresses: Vec<Address>,
    invite: Option<Invite>,
}

/// The secret with which a right is had, and what its issuer said of it, who alone decides.
#[derive(Clone)]
pub struct Invite {
    /// Signs requests for access. Its public half is the invite's name.
    pub secret: SecretKey,
    /// What it is for.
    pub permission: Permission,
    /// Until when it can be redeemed, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Invite {
    /// Its name, which is no secret.
    pub fn id(&self) -> PublicKey {
        self.secret.public()
    }
}

impl PartialEq for Invite {
    fn eq(&self, other: &Self) -> bool {
        // Equal names have equal secrets.
        (self.id(), self.permission, self.expires_ms)
            == (other.id(), other.permission, other.expires_ms)
    }
}

impl Eq for Invite {}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("id", &self.id())
            .field("permission", &self.permission)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    /// A ticket to `database` on `device`, reached at `addresses`, the best first, each once.
    ///
    /// # Errors
    /// Too many addresses, or one that is too long or leads to another device.
    pub fn new(
        database: Id,
        device: PublicKey,
        addresses: impl IntoIterator<Item = Address>,
    ) -> Result<Self, TicketError> {
        let mut kept: Vec<Address> = Vec::new();
        for address in addresses {
            if address.key().is_some_and(|key| *key != device) {
                return Err(TicketError::OtherDevice(address));
            }
            let address = address.without_key();
            encode::check(&address)?;
            if !kept.contains(&address) {
                kept.push(address);
            }
        }
        if kept.len() > limits::ADDRESSES {
            return Err(TicketError::TooManyAddresses);
        }
        Ok(Self {
            database,
            device,
            addresses: kept,
            invite: None,
        })
    }

    /// The same with an invite, which makes it a secret.
    #[must_use]
    pub fn with_invite(mut self, invite: Invite) -> Self {
        self.invite = Some(invite);
        self
    }

    /// The same without one, which is no secret.
    #[must_use]
    pub fn without_invite(mut self) -> Self {
        self.invite = None;
        self
    }

    /// The database.
    pub fn database(&self) -> Id {
        self.database
    }

    /// The device that has it, which has to prove this key.
    pub fn device(&self) -> PublicKey {
        self.device
    }

    /// Where to dial it, the best first. Each pins the device's key.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        let pin = |address: &Address| address.clone().with_key(self.device);
        self.addresses.iter().map(pin)
    }

    /// The invite, if there is one.
    pub fn invite(&self) -> Option<&Invite> {
        self.invite.as_ref()
    }

    pub(crate) fn plain_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The text in capitals: the same ticket, in the letters that a QR code holds best.
    pub fn to_qr_text(&self) -> String {
        self.to_string().to_ascii_uppercase()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        decode::text(text)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode::text(self))
    }
}

/// Shows no secret.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("database", &self.database)
            .field("device", &self.device)
            .field("addresses", &self.addresses)
            .field("invite", &self.invite)
            .finish()
    }
}
