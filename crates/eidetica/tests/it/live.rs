//! What happens by itself: on commit, at intervals, after a restart, and what the status says of it.

use std::{
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant as Time},
};

use eidetica::{
    Database, Error, Id, Instance, User,
    auth::Permission,
    sync::{Address, state::SyncStateManager},
    user::types::{DatabasePreferences, SyncSettings},
};
use futures::executor::block_on;

use crate::{
    Disk, database, read,
    sync::{client, open_database, server},
    user, write,
};

const SOON: Duration = Duration::from_secs(60);

/// A server with a database, and a client that has synchronized it.
struct Pair {
    server: Instance,
    address: Address,
    theirs: Database,
    client: Instance,
    bob: User,
    ours: Database,
}

fn pair(settings: Option<SyncSettings>) -> Pair {
    let (server, address) = server();
    let theirs = open_database(&user(&server, "alice"), "shared");
    write(&theirs, "a", "1").unwrap();
    let client = client();
    let bob = user(&client, "bob");
    if let Some(settings) = settings {
        track(&bob, theirs.root_id(), settings);
    }
    let id = theirs.root_id();
    block_on(client.sync().unwrap().sync_with_peer(&address, Some(&id))).unwrap();
    let ours = bob.open_database(id).unwrap();
    Pair {
        server,
        address,
        theirs,
        client,
        bob,
        ours,
    }
}

fn track(user: &User, database_id: Id, sync_settings: SyncSettings) {
    let key_id = user.get_default_key().unwrap();
    user.add_database(DatabasePreferences {
        database_id,
        key_id,
        sync_settings,
    })
    .unwrap();
}

fn settings(on_commit: bool, interval_seconds: Option<u64>) -> SyncSettings {
    SyncSettings {
        sync_on_commit: on_commit,
        interval_seconds,
        ..Default::default()
    }
}

/// What comes to a database from peers.
fn arrivals(database: &Database) -> Receiver<Id> {
    let (sender, receiver) = channel();
    database
        .on_remote_write(move |entry, _, _| {
            let _ = sender.send(entry.id());
            Ok(())
        })
        .unwrap();
    receiver
}

#[track_caller]
fn eventually(what: &str, check: impl Fn() -> bool) {
    let begun = Time::now();
    while !check() {
        assert!(begun.elapsed() < SOON, "{what} does not happen");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_commit_is_sent_at_once_both_ways() {
    for settings in [None, Some(settings(true, None))] {
        let pair = pair(settings);
        let (here, there) = (arrivals(&pair.ours), arrivals(&pair.theirs));
        write(&pair.ours, "b", "from the client").unwrap();
        there.recv_timeout(SOON).unwrap();
        assert_eq!(read(&pair.theirs, "b").as_deref(), Some("from the client"));
        write(&pair.theirs, "c", "from the server").unwrap();
        here.recv_timeout(SOON).unwrap();
        assert_eq!(read(&pair.ours, "c").as_deref(), Some("from the server"));
    }
}

#[test]
fn a_round_is_made_at_every_interval() {
    let pair = pair(Some(settings(false, Some(1))));
    let (here, there) = (arrivals(&pair.ours), arrivals(&pair.theirs));
    for round in 0..2 {
        write(&pair.ours, "b", &format!("client {round}")).unwrap();
        write(&pair.theirs, "c", &format!("server {round}")).unwrap();
        there.recv_timeout(SOON).unwrap();
        here.recv_timeout(SOON).unwrap();
    }
    let status = pair
        .client
        .sync()
        .unwrap()
        .database_status(pair.ours.root_id())
        .unwrap();
    assert_eq!(
        (status.interval_seconds, status.on_commit),
        (Some(1), false)
    );
}

#[test]
fn without_interval_and_not_on_commit_nothing_is_sent_until_it_is_asked_for() {
    let pair = pair(Some(SyncSettings::default()));
    let there = arrivals(&pair.theirs);
    write(&pair.ours, "b", "2").unwrap();
    let sync = pair.client.sync().unwrap();
    let status = sync.database_status(pair.ours.root_id()).unwrap();
    assert_eq!((status.on_commit, status.interval_seconds), (false, None));
    assert!(!status.is_safe_to_close());
    assert_eq!(status.peers[0].to_send.unwrap().entries, 1);
    // Half a second is a hundred times what a commit takes.
    assert!(there.recv_timeout(Duration::from_millis(500)).is_err());
    let id = pair.ours.root_id();
    block_on(sync.sync_with_peer(&pair.address, Some(&id))).unwrap();
    there.recv_timeout(SOON).unwrap();
    assert!(sync.status().unwrap().is_safe_to_close());
}

#[test]
fn preferences_take_effect_at_once() {
    let pair = pair(Some(SyncSettings::default()));
    let there = arrivals(&pair.theirs);
    write(&pair.ours, "b", "2").unwrap();
    let id = pair.ours.root_id();
    let mut prefs = pair.bob.database_prefs(id).unwrap();
    prefs.sync_settings.sync_on_commit = true;
    pair.bob.set_prefs(prefs.database_prefs).unwrap();
    // What was not sent before is found when the peers compare.
    there.recv_timeout(SOON).unwrap();
    let mut prefs = pair.bob.database_prefs(id).unwrap();
    prefs.sync_settings.sync_enabled = false;
    pair.bob.set_prefs(prefs.database_prefs).unwrap();
    write(&pair.ours, "b", "3").unwrap();
    assert!(there.recv_timeout(Duration::from_millis(500)).is_err());
    pair.bob.remove_database(id).unwrap();
    // Tracked by nobody, it is as at first.
    there.recv_timeout(SOON).unwrap();
    assert_eq!(read(&pair.theirs, "b").as_deref(), Some("3"));
}

#[test]
fn the_most_active_of_several_users_counts() {
    let pair = pair(None);
    let (carol, id) = (user(&pair.client, "carol"), pair.ours.root_id());
    let interval = || {
        let sync = pair.client.sync().unwrap();
        let status = sync.database_status(id).unwrap();
        (status.enabled, status.on_commit, status.interval_seconds)
    };
    assert_eq!(interval(), (true, true, Some(300)), "nobody tracks it");
    track(&pair.bob, id, settings(false, Some(300)));
    assert_eq!(interval(), (true, false, Some(300)));
    track(&carol, id, settings(false, Some(60)));
    assert_eq!(interval(), (true, false, Some(60)));
    track(&pair.bob, id, settings(true, None));
    assert_eq!(interval(), (true, true, Some(60)));
    let off = SyncSettings {
        sync_enabled: false,
        ..settings(false, Some(5))
    };
    track(&carol, id, off.clone());
    assert_eq!(interval(), (true, true, None));
    track(&pair.bob, id, off);
    assert!(!interval().0, "disabled by all");
}

#[test]
fn the_status_says_who_has_the_latest_write() {
    let pair = pair(None);
    let (id, sync) = (pair.ours.root_id(), pair.client.sync().unwrap());
    eventually("everything there", || {
        sync.status().unwrap().is_safe_to_close()
    });
    pair.server.sync().unwrap().stop_server().unwrap();
    for n in 0..3 {
        write(&pair.ours, "b", &n.to_string()).unwrap();
    }
    let status = sync.database_status(id).unwrap();
    assert_eq!(status.name, "shared");
    let [copy] = status.peers.as_slice() else {
        panic!()
    };
    assert_eq!(copy.peer, pair.server.device_key());
    assert!(!copy.has_latest && !status.is_safe_to_close());
    assert_eq!(copy.to_send.map(|left| left.entries), Some(3));
    assert!(!sync.status().unwrap().is_safe_to_close());
    let theirs = pair.server.sync().unwrap();
    theirs.start_server("127.0.0.1:0").unwrap();
    let address = theirs.get_server_address().unwrap();
    block_on(sync.sync_with_peer(address, Some(&id))).unwrap();
    eventually("everything there", || {
        let copy = &sync.database_status(id).unwrap().peers[0];
        copy.has_latest && copy.to_send.is_some_and(|left| left.entries == 0)
    });
    assert!(sync.status().unwrap().is_safe_to_close());
    // The server knows it of whoever listens, whom nobody can dial.
    eventually("the server knows", || {
        theirs.database_status(id).unwrap().is_safe_to_close()
    });
}

/// Of databases that it delegates to, entries go along where they are needed; they are not what is left of it.
#[test]
fn what_is_left_to_send_is_counted_without_what_goes_along() {
    let (server, address) = server();
    let alice = user(&server, "alice");
    let (team, notes) = (database(&alice, "team"), database(&alice, "notes"));
    let client = client();
    let bob = user(&client, "bob");
    let member = bob.get_default_key().unwrap().public_key();
    team.change_settings(|settings| settings.grant(member, Permission::Write(3), "bob"))
        .unwrap();
    let floor: Vec<Id> = team.tips().unwrap().iter().map(|tip| tip.id).collect();
    notes
        .change_settings(|settings| {
            settings.delegate(team.root_id(), Permission::Write(10), floor.clone(), "team")
        })
        .unwrap();
    let (id, sync) = (notes.root_id(), client.sync().unwrap());
    block_on(sync.sync_with_peer(&address, Some(&id))).unwrap();
    eventually("everything there", || {
        sync.status().unwrap().is_safe_to_close()
    });
    server.sync().unwrap().stop_server().unwrap();
    write(&bob.open_database(id).unwrap(), "a", "1").unwrap();
    let status = sync.database_status(id).unwrap();
    let left = status.peers[0].to_send.unwrap();
    assert_eq!((left.entries, left.more), (1, false));
}

#[test]
fn what_is_left_to_send_survives_a_restart_and_is_sent() {
    let (server, address) = server();
    let theirs = open_database(&user(&server, "alice"), "shared");
    let id = theirs.root_id();
    let disk = Disk::new();
    {
        let client = disk.open().enable_sync().unwrap();
        client.sync().unwrap().enable_http_transport().unwrap();
        let bob = user(&client, "bob");
        block_on(client.sync().unwrap().sync_with_peer(&address, Some(&id))).unwrap();
        server.sync().unwrap().stop_server().unwrap();
        write(&bob.open_database(id).unwrap(), "b", "offline").unwrap();
    }
    let place = address.to_string();
    let place = place.trim_start_matches("http://");
    let there = arrivals(&theirs);
    server.sync().unwrap().start_server(place).unwrap();
    let client = disk.open().enable_sync().unwrap();
    let sync = client.sync().unwrap();
    assert!(!sync.status().unwrap().is_safe_to_close());
    // Nobody is logged in and nobody asks.
    sync.enable_http_transport().unwrap();
    there.recv_timeout(SOON).unwrap();
    assert_eq!(read(&theirs, "b").as_deref(), Some("offline"));
    eventually("the status", || sync.status().unwrap().is_safe_to_close());
    let op = sync.sync_tree().new_operation().unwrap();
    let cursor = SyncStateManager::new(&op)
        .get_sync_cursor(server.device_key(), id)
        .unwrap();
    assert_eq!(
        cursor.last_synced_entry,
        theirs.tips().unwrap().last().map(|tip| tip.id)
    );
}

#[test]
fn an_approved_request_completes_by_itself() {
    let (server, address) = server();
    let alice = user(&server, "alice");
    let theirs = database(&alice, "closed");
    write(&theirs, "a", "1").unwrap();
    let client = client();
    let bob = user(&client, "bob");
    let (id, sync) = (theirs.root_id(), client.sync().unwrap());
    let key = bob.get_default_key().unwrap();
    let asked = sync.sync_with_peer_for_bootstrap(&address, &id, key, Permission::Write(10));
    let Err(Error::BootstrapPending { request_id }) = block_on(asked) else {
        panic!()
    };
    let approve = || {
        let sync = server.sync().unwrap();
        let by = alice.get_default_key().unwrap();
        sync.approve_bootstrap_request(&request_id, by).unwrap();
    };
    let (waited, ()) =
        block_on(async { futures::join!(sync.await_bootstrap(&request_id), async { approve() }) });
    waited.unwrap();
    let ours = bob.open_database(id).unwrap();
    assert_eq!(read(&ours, "a").as_deref(), Some("1"));
    let here = arrivals(&ours);
    write(&theirs, "a", "2").unwrap();
    here.recv_timeout(SOON).unwrap();
}

#[test]
fn a_refused_request_says_so_to_whoever_waits() {
    let (server, address) = server();
    let alice = user(&server, "alice");
    let id = database(&alice, "closed").root_id();
    let client = client();
    let bob = user(&client, "bob");
    let (key, sync) = (bob.get_default_key().unwrap(), client.sync().unwrap());
    let asked = sync.sync_with_peer_for_bootstrap(&address, &id, key, Permission::Read);
    let Err(Error::BootstrapPending { request_id }) = block_on(asked) else {
        panic!()
    };
    server
        .sync()
        .unwrap()
        .reject_bootstrap_request(&request_id)
        .unwrap();
    let waited = block_on(sync.await_bootstrap(&request_id));
    assert!(matches!(waited, Err(Error::AccessDenied(found)) if found == id));
}
