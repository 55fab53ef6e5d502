//! Tickets and invites over Iroh: what does not work says why.

use std::time::{Duration, SystemTime};

use eidetica::{
    Blame, Database, Error, Instance, User,
    auth::Permission,
    sync::{EndpointAddress, InviteEnd, IrohConfig, IrohLimits, Ticket},
};
use futures::executor::block_on;

use crate::{
    facade::{database, instance, read},
    relay::{other_family, relay},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

struct Sharing {
    alice: Instance,
    author: User,
    shared: Database,
}

impl Sharing {
    fn start(config: IrohConfig) -> Self {
        let alice = instance(config);
        let author = alice.login_user("user", None).unwrap();
        let shared = database(&author);
        alice.sync().unwrap().start_server("ignored").unwrap();
        Self {
            alice,
            author,
            shared,
        }
    }

    fn invite(&self, count: u32, lifetime: Duration) -> Ticket {
        let key = self.author.get_default_key().unwrap();
        let sync = self.alice.sync().unwrap();
        let id = self.shared.root_id();
        let ticket = sync.invite(id, key, Permission::Write(10), count, lifetime);
        ticket.unwrap().to_string().parse().unwrap()
    }
}

/// What comes of it when somebody new takes a ticket.
fn take(ticket: &Ticket, config: IrohConfig) -> eidetica::Result<()> {
    let bob = instance(config);
    let user = bob.login_user("user", None)?;
    let sync = bob.sync()?;
    block_on(sync.join(ticket, user.get_default_key()?, Permission::Write))?;
    let copy = user.open_database(ticket.database())?;
    assert_eq!(read(&copy, "monday").as_deref(), Some("buy milk"));
    Ok(())
}

fn end_of(taken: eidetica::Result<()>) -> Option<InviteEnd> {
    match taken {
        Err(Error::InviteEnded(end)) => Some(end),
        _ => None,
    }
}

#[test]
fn an_invite_ends_by_count_time_and_issuer() {
    let sharing = Sharing::start(IrohConfig::local());
    let once = sharing.invite(1, DAY);
    take(&once, IrohConfig::local()).unwrap();
    let again = take(&once, IrohConfig::local());
    assert_eq!(end_of(again), Some(InviteEnd::Used));

    let short = sharing.invite(1, Duration::from_millis(1));
    let end = SystemTime::UNIX_EPOCH + Duration::from_millis(short.invite().unwrap().expires_ms);
    while SystemTime::now() <= end {
        std::thread::yield_now();
    }
    let late = take(&short, IrohConfig::local());
    assert_eq!(end_of(late), Some(InviteEnd::Expired));

    let taken_back = sharing.invite(1, DAY);
    let id = taken_back.invite().unwrap().id();
    sharing
        .alice
        .sync()
        .unwrap()
        .revoke_invite(id.into())
        .unwrap();
    let refused = take(&taken_back, IrohConfig::local());
    assert_eq!(end_of(refused), Some(InviteEnd::Revoked));
}

/// A ticket with Alice's sockets and the key of somebody else: whoever answers there does not prove it, and learns
/// nothing of the invite.
#[test]
fn a_ticket_with_another_devices_key_is_refused() {
    let sharing = Sharing::start(IrohConfig::local());
    let ticket = sharing.invite(1, DAY);
    let stranger = instance(IrohConfig::local()).device_key().public_key();
    let place = ticket.addresses().next().unwrap();
    let place = place.endpoint().unwrap();
    let wrong = EndpointAddress::new(stranger)
        .with_direct(place.direct().iter().copied())
        .unwrap();
    let wrong = Ticket::new(ticket.database(), stranger, [wrong.into()]).unwrap();
    let wrong = wrong.with_invite(ticket.invite().unwrap().clone());
    let error = take(&wrong, IrohConfig::local()).unwrap_err();
    assert_eq!(error.blame(), Blame::Peer, "{error}");
    assert!(
        error.to_string().contains("does not prove the key"),
        "{error}"
    );
    let invites = sharing.alice.sync().unwrap().list_invites().unwrap();
    assert_eq!(invites[0].left, 1);
    take(&ticket, IrohConfig::local()).unwrap();
}

/// The relay that the ticket names is gone: an error that says who could not be reached, soon, and which a later try may
/// not meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_whose_relay_has_vanished_says_so() {
    let Some(bind) = other_family() else { return };
    let (server, relays) = relay().await;
    let at = |bind: &str| {
        let mut limits = IrohLimits::default();
        limits.dial = Duration::from_secs(2);
        IrohConfig::local()
            .with_relays(relays.clone())
            .with_bind(vec![bind.parse().unwrap()])
            .with_limits(limits)
    };
    let (alices, bobs) = (at("127.0.0.1:0"), at(bind));
    let sharing = tokio::task::spawn_blocking(|| Sharing::start(alices))
        .await
        .unwrap();
    let ticket = sharing.invite(2, DAY);
    let (taken, before) = (ticket.clone(), bobs.clone());
    let taken = tokio::task::spawn_blocking(move || take(&taken, before));
    taken.await.unwrap().unwrap();
    server.shutdown().await.unwrap();
    let taken = tokio::task::spawn_blocking(move || (take(&ticket, bobs), drop(sharing)));
    let (taken, ()) = taken.await.unwrap();
    let error = taken.unwrap_err();
    assert_eq!(error.blame(), Blame::Unavailable, "{error}");
}
