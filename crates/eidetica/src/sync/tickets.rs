//! Tickets and invites: giving out the way to a database, and taking it.

use std::time::Duration;

use eidetica_auth::{IntoPermission, InviteProof, Permission, SecretKey, SignedRequest};
use eidetica_engine::{EngineError, Selection, Target};
use eidetica_entry::{Id, PublicKey};
use eidetica_node::NodeError;
use eidetica_protocol::{Failure, Refusal};
use eidetica_ticket::{Invite, Ticket, TicketError};
use eidetica_transport::{Address, EndpointAddress, Scheme};

use super::{BootstrapStatus, Sync, SyncReport};
use crate::{AsDatabaseId, AsKey, Error, KeyId, Result, User};

/// An invite that was issued here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InviteInfo {
    /// Its name; the secret is in the ticket alone.
    pub id: KeyId,
    /// The database.
    pub database_id: Id,
    /// The right that it gives.
    pub permission: Permission,
    /// The key that grants.
    pub by: KeyId,
    /// How many keys may redeem it.
    pub count: u32,
    /// How many still may.
    pub left: u32,
    /// The keys that have redeemed it.
    pub redeemed: Vec<KeyId>,
    /// Until when, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl InviteInfo {
    fn of(invite: eidetica_engine::Invite, now_ms: u64) -> Self {
        let left = invite.left(now_ms);
        let granted = invite.redeemed.iter().filter(|place| place.granted);
        Self {
            id: invite.id.into(),
            database_id: invite.database,
            permission: invite.permission,
            by: invite.by.into(),
            count: invite.count,
            left,
            redeemed: granted.map(|place| place.key.into()).collect(),
            expires_ms: invite.expires_ms,
            revoked: invite.revoked,
        }
    }
}

/// Why an invite does nothing any more, as its issuer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteEnd {
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// As many keys as it is for have redeemed it, or this one has.
    #[error("it is used up")]
    Used,
    /// Its issuer has taken it back.
    #[error("it was taken back")]
    Revoked,
}

impl InviteEnd {
    fn of(error: &NodeError) -> Option<Self> {
        match error {
            NodeError::Engine(EngineError::Session(Failure::Refused(refusal))) => match *refusal {
                Refusal::INVITE_EXPIRED => Some(Self::Expired),
                Refusal::INVITE_USED => Some(Self::Used),
                Refusal::INVITE_REVOKED => Some(Self::Revoked),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Tickets and invites.
impl Sync {
    /// A ticket to a database here, at the addresses where the server listens. It is no secret: whoever has it may ask
    /// for access, as anybody may who knows this much.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], and the server does not run.
    pub fn ticket(&self, database: impl AsDatabaseId) -> Result<Ticket> {
        let (instance, database) = (self.instance()?, database.as_database_id()?);
        instance.open_inner(&database)?;
        let addresses = self.get_server_addresses();
        if addresses.is_empty() {
            return Err(NodeError::ServerNotRunning.into());
        }
        Ok(Ticket::new(
            database,
            instance.device_key().public_key(),
            addresses,
        )?)
    }

    /// A ticket with an invite: the next `count` keys that show it get the permission, within `lifetime`, granted by the
    /// key `by`. Whoever has the ticket can use it. Nobody is asked again, but the key that grants has to be unlocked then,
    /// by a user that is logged in; else the request waits as others do.
    ///
    /// # Errors
    /// As [`ticket`](Self::ticket); [`Error::InviteRight`] where the key may not grant so much; no key, too many, or too
    /// long a time.
    pub fn invite(
        &self,
        database: impl AsDatabaseId,
        by: impl AsKey,
        permission: impl IntoPermission,
        count: u32,
        lifetime: Duration,
    ) -> Result<Ticket> {
        let ticket = self.ticket(database)?;
        let (instance, permission) = (self.instance()?, permission.into_permission());
        let user = self.user.as_ref().and_then(User::of);
        let by = instance.find_key(&by.as_key(), user.as_ref())?.public();
        let right = instance.right_of(&ticket.database(), by.into())?;
        if !right.is_some_and(|right| right.may_grant(permission)) {
            return Err(Error::InviteRight(permission));
        }
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let secret = SecretKey::generate(&mut rand::rng());
        let invite = Invite {
            secret,
            permission,
            expires_ms: self.node.now_ms().saturating_add(lifetime_ms),
        };
        self.node
            .put_invite(eidetica_engine::Invite {
                id: invite.id(),
                database: ticket.database(),
                permission,
                by,
                count,
                expires_ms: invite.expires_ms,
                revoked: false,
                redeemed: Vec::new(),
            })
            .wait()?;
        Ok(ticket.with_invite(invite))
    }

    /// The invites that were issued here, ended ones of the last days among them.
    ///
    /// # Errors
    /// None today.
    pub fn list_invites(&self) -> Result<Vec<InviteInfo>> {
        let now_ms = self.node.now_ms();
        let invites = self.node.invites().into_iter();
        Ok(invites
            .map(|invite| InviteInfo::of(invite, now_ms))
            .collect())
    }

    /// Takes an invite back. Rights that it gave stay: those are ended by revoking the keys.
    ///
    /// # Errors
    /// No such invite.
    pub fn revoke_invite(&self, invite: KeyId) -> Result<()> {
        Ok(self.node.revoke_invite(invite.public_key()).wait()?)
    }

    /// Takes a ticket: fetches the database, after redeeming the invite if there is one, else after asking for
    /// `permission` where nothing can be read yet. The device has to prove the key that the ticket names; its addresses
    /// are tried in order, each a quarter of a second after the one before, and it is looked up where that is enabled.
    /// `key` is as for
    /// [`sync_with_peer_for_bootstrap`](Self::sync_with_peer_for_bootstrap).
    ///
    /// # Errors
    /// [`Error::InviteEnded`], [`Error::BootstrapPending`], [`Error::AccessDenied`], and as
    /// [`sync_with_peer`](Self::sync_with_peer).
    pub async fn join(
        &self,
        ticket: &Ticket,
        key: impl AsKey,
        permission: impl IntoPermission,
    ) -> Result<SyncReport> {
        let (database, key) = (ticket.database(), key.as_key());
        let invite = ticket.invite();
        let permission = match invite {
            Some(invite) => invite.permission,
            None => permission.into_permission(),
        };
        let addresses = self.ways(ticket);
        if addresses.is_empty() {
            return Err(NodeError::NoTransport(None).into());
        }
        let request = self.request(database, &key, permission)?;
        let key = ticket.device();
        let target = Target::Device { key, addresses };
        let joined = self.join_at(target, &request, invite).await;
        if !joined.as_ref().is_err_and(is_about_the_way) {
            self.remember(ticket).await?;
        }
        joined
    }

    async fn join_at(
        &self,
        target: Target,
        request: &SignedRequest,
        invite: Option<&Invite>,
    ) -> Result<SyncReport> {
        let asked = match invite {
            Some(invite) => {
                let proof = InviteProof::make(&invite.secret, request);
                self.node.redeem(target, request.clone(), proof).await
            }
            None => self.node.bootstrap(target, request.clone()).await,
        };
        let asked = asked.map_err(|error| match InviteEnd::of(&error) {
            Some(end) => Error::InviteEnded(end),
            None => error.into(),
        })?;
        let database = request.request().database;
        let fetch = || self.sync(Target::Peer(asked.peer), Selection::These(vec![database]));
        match asked.answer.into() {
            BootstrapStatus::Granted => fetch().await,
            BootstrapStatus::Pending(request_id) => Err(Error::BootstrapPending { request_id }),
            // Another right than the one asked for may be there.
            BootstrapStatus::Denied => fetch().await.map_err(|_| Error::AccessDenied(database)),
        }
    }

    /// The ticket's addresses that can be dialled, and a look-up of its device by its key alone.
    fn ways(&self, ticket: &Ticket) -> Vec<Address> {
        let enabled = |scheme| self.node.is_enabled(scheme);
        let mut ways: Vec<Address> = ticket
            .addresses()
            .filter(|address| enabled(address.scheme()))
            .collect();
        if enabled(Scheme::Iroh) && !ways.iter().any(|way| way.scheme() == Scheme::Iroh) {
            ways.push(EndpointAddress::new(ticket.device()).into());
        }
        ways
    }

    /// Remembers the ticket's other addresses too, the one that worked first.
    async fn remember(&self, ticket: &Ticket) -> Result<()> {
        let device: PublicKey = ticket.device();
        let Some(peer) = self.node.peer(&device) else {
            return Ok(());
        };
        let worked = peer.addresses.into_iter().next();
        let mut addresses: Vec<Address> = ticket.addresses().collect();
        addresses.reverse();
        for address in addresses.into_iter().chain(worked) {
            self.node.add_peer_address(device, address).await?;
        }
        Ok(())
    }
}

/// Whether another address of the same device may do better.
fn is_about_the_way(error: &Error) -> bool {
    matches!(
        error,
        Error::Sync(error) if matches!(
            &**error,
            NodeError::Engine(EngineError::Connect(_)) | NodeError::Transport(_) | NodeError::NoTransport(_)
        )
    )
}

impl From<TicketError> for Error {
    fn from(error: TicketError) -> Self {
        Self::Ticket(Box::new(error))
    }
}
