//! What the guide says about Iroh, through a relay that the test starts.

use eidetica::{
    Instance,
    backend::database::InMemory,
    crdt::Doc,
    sync::{IrohConfig, Relays},
};

use crate::relay::{other_family, relay};

fn instance(bind: &str, relays: &Relays) -> Instance {
    let instance = Instance::open(Box::new(InMemory::new())).unwrap();
    let sync = instance.enable_sync().unwrap().sync().unwrap();
    let config = IrohConfig::local()
        .with_relays(relays.clone())
        .with_bind(vec![bind.parse().unwrap()]);
    sync.enable_iroh_transport_with(config).unwrap();
    instance.create_user("user", None).unwrap();
    instance
}

/// A database that anybody may read.
fn settings() -> Doc {
    let mut auth = Doc::new();
    let all = serde_json::json!({"pubkey": "*", "permissions": "Read", "status": "Active"});
    auth.set_json("*", all).unwrap();
    let mut settings = Doc::new();
    settings.set_string("name", "shared");
    settings.set_doc("auth", auth);
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_through_a_relay() -> eidetica::Result<()> {
    let Some(bind) = other_family() else {
        return Ok(());
    };
    let (server, relays) = relay().await;
    // One on IPv4 alone, one on IPv6 alone: nothing goes directly.
    let (alice, bob) = (instance("127.0.0.1:0", &relays), instance(bind, &relays));
    let author = alice.login_user("user", None)?;
    let database = author.create_database(settings(), author.get_default_key()?)?;
    let op = database.new_transaction()?;
    op.doc("notes")?.set("monday", "buy milk")?;
    op.commit()?;
    let tree_id = database.root_id();

    let sync = alice.sync()?;
    sync.start_server_async("ignored").await?;
    let my_address = sync.get_server_address_async().await?;
    let peer_address_json = my_address.to_json().unwrap();

    let sync = bob.sync()?;
    let report = sync
        .sync_with_peer(&peer_address_json, Some(&tree_id))
        .await?;
    assert_eq!(report.peer, alice.device_key());
    let reader = bob.login_user("user", None)?;
    let copy = reader.open_database(tree_id)?;
    assert_eq!(
        copy.doc("notes")?.get_as::<String>("monday")?.as_deref(),
        Some("buy milk")
    );
    drop((reader, copy, author, database));
    tokio::task::spawn_blocking(move || drop((alice, bob)))
        .await
        .unwrap();
    server.shutdown().await.unwrap();
    Ok(())
}
