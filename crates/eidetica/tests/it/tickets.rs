//! Tickets and invites, over HTTP.

use std::time::Duration;

use eidetica::{
    Blame, Database, Error, Id, Instance, User,
    auth::{Permission, Revocation},
    sync::{Address, Invite, InviteEnd, Ticket},
};
use futures::executor::block_on;

use crate::{
    Disk, database, read,
    sync::{client, server},
    user, write,
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

struct World {
    server: Instance,
    alice: User,
    notes: Database,
}

fn world() -> World {
    let (server, _address) = server();
    let alice = user(&server, "alice");
    let notes = database(&alice, "notes");
    write(&notes, "a", "1").unwrap();
    World {
        server,
        alice,
        notes,
    }
}

impl World {
    fn id(&self) -> Id {
        self.notes.root_id()
    }

    fn invite(&self, permission: Permission, count: u32, lifetime: Duration) -> Ticket {
        let key = self.alice.get_default_key().unwrap();
        let sync = self.server.sync().unwrap();
        sync.invite(self.id(), key, permission, count, lifetime)
            .unwrap()
    }
}

/// A user of a new instance, and what comes of joining.
fn join(ticket: &Ticket) -> (Instance, User, eidetica::Result<()>) {
    let instance = client();
    let user = user(&instance, "bob");
    let joined = join_as(&user, ticket);
    (instance, user, joined)
}

fn join_as(user: &User, ticket: &Ticket) -> eidetica::Result<()> {
    let sync = user.instance().sync()?;
    let key = user.get_default_key()?;
    block_on(sync.join(ticket, key, Permission::Write)).map(drop)
}

/// As it goes over: by its text.
fn sent(ticket: &Ticket) -> Ticket {
    ticket.to_string().parse().unwrap()
}

fn end_of(joined: eidetica::Result<()>) -> Option<InviteEnd> {
    match joined {
        Err(Error::InviteEnded(end)) => Some(end),
        _ => None,
    }
}

#[test]
fn an_invite_opens_a_database_for_as_many_as_it_says() {
    let world = world();
    let ticket = sent(&world.invite(Permission::Write(10), 2, DAY));
    assert_eq!(ticket.database(), world.id());
    assert_eq!(ticket.device(), world.server.device_key().public_key());

    let (_instance, bob, joined) = join(&ticket);
    joined.unwrap();
    let copy = bob.open_database(world.id()).unwrap();
    assert_eq!(read(&copy, "a").as_deref(), Some("1"));
    write(&copy, "b", "2").unwrap();
    let address = ticket.addresses().next().unwrap();
    let sync = bob.instance().sync().unwrap();
    block_on(sync.sync_with_peer(&address, Some(&world.id()))).unwrap();
    assert_eq!(read(&world.notes, "b").as_deref(), Some("2"));
    // Again: nothing is used up by whoever has the right.
    join_as(&bob, &ticket).unwrap();

    let (_instance, _carol, joined) = join(&ticket);
    joined.unwrap();
    let (_instance, dave, joined) = join(&ticket);
    assert_eq!(end_of(joined), Some(InviteEnd::Used));
    assert!(!dave.instance().has_database(world.id()).unwrap());

    let invites = world.server.sync().unwrap().list_invites().unwrap();
    assert_eq!(
        (invites.len(), invites[0].left, invites[0].redeemed.len()),
        (1, 0, 2)
    );
    assert_eq!(invites[0].redeemed[0], bob.get_default_key().unwrap());
}

#[test]
fn an_invite_ends_by_time_and_by_its_issuer() {
    let world = world();
    let short = world.invite(Permission::Read, 1, Duration::from_millis(1));
    while short.invite().unwrap().expires_ms > now_ms() {
        std::thread::yield_now();
    }
    let (_instance, _bob, joined) = join(&short);
    assert_eq!(end_of(joined), Some(InviteEnd::Expired));

    let taken = world.invite(Permission::Read, 1, DAY);
    let sync = world.server.sync().unwrap();
    sync.revoke_invite(taken.invite().unwrap().id().into())
        .unwrap();
    let (_instance, _bob, joined) = join(&taken);
    assert_eq!(end_of(joined), Some(InviteEnd::Revoked));
    assert!(sync.revoke_invite(world.server.device_key()).is_err());
}

fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_millis() as u64
}

/// What is issued survives the issuer's restart, count and all.
#[test]
fn an_invite_survives_a_restart() {
    let disk = Disk::new();
    let start = || {
        let instance = disk.open().enable_sync().unwrap();
        let sync = instance.sync().unwrap();
        sync.enable_http_transport().unwrap();
        sync.start_server("127.0.0.1:0").unwrap();
        instance
    };
    let first = start();
    let alice = user(&first, "alice");
    let id = database(&alice, "notes").root_id();
    let key = alice.get_default_key().unwrap();
    let ticket = first
        .sync()
        .unwrap()
        .invite(id, key, Permission::Read, 2, DAY)
        .unwrap();
    let (_instance, _bob, joined) = join(&ticket);
    joined.unwrap();
    drop((alice, first));

    let second = start();
    let again = second.sync().unwrap().ticket(id).unwrap();
    let moved = again.with_invite(ticket.invite().unwrap().clone());
    // Nobody is logged in: what the invite gives has to wait, and is not lost.
    let (_instance, carol, joined) = join(&moved);
    assert!(
        matches!(joined, Err(Error::BootstrapPending { .. })),
        "{joined:?}"
    );
    let _alice = second.login_user("alice", None).unwrap();
    join_as(&carol, &moved).unwrap();
    let (_instance, _dave, joined) = join(&moved);
    assert_eq!(end_of(joined), Some(InviteEnd::Used));
}

#[test]
fn a_ticket_leads_to_the_device_that_it_names_or_nowhere() {
    let world = world();
    let ticket = world.invite(Permission::Read, 1, DAY);
    let elsewhere = client();
    let places = ticket.addresses().map(Address::without_key);
    let wrong = Ticket::new(world.id(), elsewhere.device_key().public_key(), places).unwrap();
    let wrong = wrong.with_invite(ticket.invite().unwrap().clone());
    let (_instance, bob, joined) = join(&sent(&wrong));
    let error = joined.unwrap_err();
    assert_eq!(error.blame(), Blame::Peer, "{error}");
    assert!(
        error.to_string().contains("the peer has the key"),
        "{error}"
    );
    assert!(
        bob.instance()
            .sync()
            .unwrap()
            .list_peers()
            .unwrap()
            .is_empty()
    );
    let invites = world.server.sync().unwrap().list_invites().unwrap();
    assert_eq!(invites[0].left, 1, "nothing was redeemed");
}

/// What is in the way of one address is not in the way of the others, and no number of them is too many.
#[test]
fn stale_addresses_do_not_hold_up_who_joins() {
    let world = world();
    let ticket = world.invite(Permission::Read, 1, DAY);
    let good = ticket.addresses().next().unwrap().without_key();
    // It takes connections and never says a word.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = Address::http(&listener.local_addr().unwrap().to_string()).unwrap();
    let stale = Ticket::new(world.id(), ticket.device(), [deaf.clone(), good.clone()]).unwrap();
    let stale = stale.with_invite(ticket.invite().unwrap().clone());
    let begun = std::time::Instant::now();
    let (_instance, bob, joined) = join(&sent(&stale));
    joined.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    let sync = bob.instance().sync().unwrap();
    let addresses = || sync.list_peers().unwrap().remove(0).addresses;
    assert_eq!(addresses(), [good.clone(), deaf]);
    // Nor are there ever too many.
    for port in 1..=16 {
        let address = Address::http(&format!("127.0.0.1:{port}")).unwrap();
        sync.add_peer_address(world.server.device_key(), address)
            .unwrap();
    }
    assert_eq!(addresses().len(), 16);
    assert!(!addresses().contains(&good));
    join_as(&bob, &stale).unwrap();
    assert_eq!(addresses().len(), 16);
    assert!(addresses().contains(&good));
    drop(listener);
}

#[test]
fn a_ticket_without_an_invite_says_where_to_ask() {
    let world = world();
    let ticket = sent(&world.server.sync().unwrap().ticket(world.id()).unwrap());
    assert!(ticket.invite().is_none());
    let (_instance, bob, joined) = join(&ticket);
    let Err(Error::BootstrapPending { request_id }) = joined else {
        panic!("{joined:?}")
    };
    let key = world.alice.get_default_key().unwrap();
    let sync = world.server.sync().unwrap();
    sync.approve_bootstrap_request(&request_id, key).unwrap();
    join_as(&bob, &ticket).unwrap();
    assert!(bob.open_database(world.id()).is_ok());
}

/// Whoever makes an invite up gets what a stranger gets.
#[test]
fn an_invite_that_was_not_issued_is_worth_nothing() {
    let world = world();
    let ticket = world.invite(Permission::Read, 1, DAY);
    let forged = Invite {
        secret: eidetica::auth::SecretKey::from_bytes(&[9; 32]),
        ..ticket.invite().unwrap().clone()
    };
    let (_instance, bob, joined) = join(&ticket.clone().with_invite(forged));
    assert!(matches!(joined, Err(Error::AccessDenied(_))), "{joined:?}");
    assert!(!bob.instance().has_database(world.id()).unwrap());
    assert!(
        world
            .server
            .sync()
            .unwrap()
            .list_bootstrap_requests()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_invite_gives_no_more_than_its_issuer_may() {
    let world = world();
    let ticket = world.invite(Permission::Write(10), 5, DAY);
    let (_instance, bob, joined) = join(&ticket);
    joined.unwrap();
    let bobs = bob.instance().sync().unwrap();
    bobs.start_server("127.0.0.1:0").unwrap();
    let key = bob.get_default_key().unwrap();
    let refused = bobs.invite(world.id(), key, Permission::Read, 1, DAY);
    assert!(
        matches!(refused, Err(Error::InviteRight(Permission::Read))),
        "{refused:?}"
    );
    let none = bobs.ticket(Id::new([9; 32]));
    assert!(matches!(none, Err(Error::NoDatabase(_))));
}

/// A right that was taken away does not come back by another invite.
#[test]
fn a_revoked_key_is_not_invited_back() {
    let world = world();
    let ticket = world.invite(Permission::Write(10), 1, DAY);
    let (_instance, bob, joined) = join(&ticket);
    joined.unwrap();
    let key = bob.get_default_key().unwrap().public_key();
    world
        .notes
        .change_settings(|settings| settings.revoke(Revocation::of(key)))
        .unwrap();
    let another = world.invite(Permission::Write(10), 1, DAY);
    let joined = join_as(&bob, &another);
    assert!(
        joined.is_err() && end_of(joined).is_none(),
        "somebody has to look"
    );
    let invites = world.server.sync().unwrap().list_invites().unwrap();
    assert!(invites.iter().any(|invite| invite.left == 1));
}
