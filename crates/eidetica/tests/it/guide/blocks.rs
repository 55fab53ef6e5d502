//! The blocks of the guide, each in a test with what it assumes around it. The text between the markers is that of
//! the guide; see the module above.
#![allow(
    unused_mut,
    unused_variables,
    unused_imports,
    clippy::clone_on_copy,
    clippy::needless_borrows_for_generic_args,
    clippy::items_after_statements,
    reason = "the guide's text stands as it is"
)]

use eidetica::{
    Database, Error, Id, Instance, Result, User,
    auth::Permission,
    backend::database::InMemory,
    crdt::Doc,
    sync::Address,
    user::types::{DatabasePreferences, SyncSettings},
};
use futures::executor::block_on;

use crate::{
    database, instance, named, read,
    sync::{client, open_database, server},
    user, write,
};

/// A server with a database that everybody may write, and somebody who wants it.
struct Two {
    server: Instance,
    address: String,
    theirs: Database,
    tree_id: Id,
    client: Instance,
    bob: User,
}

fn two() -> Two {
    let (server, address) = server();
    let theirs = open_database(&user(&server, "alice"), "My Project");
    write(&theirs, "a", "1").unwrap();
    let client = client();
    let bob = user(&client, "bob");
    Two { address: address.to_string(), tree_id: theirs.root_id(), server, theirs, client, bob }
}

impl Two {
    /// Whether both sides have all that either of them had.
    fn assert_in_sync(&self) {
        let copy = self.bob.open_database(self.tree_id).unwrap();
        assert_eq!(copy.tips().unwrap(), self.theirs.tips().unwrap());
        assert_eq!(read(&copy, "a").as_deref(), Some("1"));
    }
}

#[test]
fn quick_start_enable_sync() -> Result<()> {
    // guide block 1
extern crate eidetica;
use eidetica::{Instance, backend::database::InMemory};

fn main() -> eidetica::Result<()> {
let backend = Box::new(InMemory::new());
// Create a database with sync enabled
let instance = Instance::open(backend)?;
instance.enable_sync()?;

// Create and login a user (generates authentication key automatically)
instance.create_user("alice", None)?;
let mut user = instance.login_user("alice", None)?;
Ok(())
}
    // end of block
    main()?;
    Ok(())
}

#[test]
fn quick_start_enable_a_transport() -> Result<()> {
    let instance = instance().enable_sync()?;
    let db = database(&user(&instance, "alice"), "notes");
    block_on(async {
    // guide block 2
// Get access to sync module
let sync = db.sync().unwrap();

// Enable HTTP transport
sync.enable_http_transport()?;

// Start a server to accept connections
sync.start_server_async("127.0.0.1:0").await?;
    // end of block
    assert!(sync.is_server_running());
    Ok::<(), Error>(())
    })?;
    Ok(())
}

#[test]
fn quick_start_bootstrap_and_connect() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let client_db = &two.client;
    block_on(async {
    // guide block 3
// On another device - connect and bootstrap with authentication
let client_sync = client_db.sync().unwrap();
client_sync.enable_http_transport()?;

// Bootstrap with authentication - automatically requests write permission
client_sync.sync_with_peer_for_bootstrap(
    &address,
    &tree_id,
    "device_key",                          // Your local key name
    eidetica::auth::Permission::Write      // Requested permission level
).await?;
    // end of block
    // guide block 4
// Connect and sync with a peer - automatically detects bootstrap vs incremental sync
client_sync.sync_with_peer(&address, Some(&tree_id)).await?;
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn transports_http() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let own = instance().enable_sync()?;
    let sync = own.sync()?;
    block_on(async {
    // guide block 5
// Enable HTTP transport
sync.enable_http_transport()?;

// Start server
sync.start_server_async("127.0.0.1:0").await?;

// Connect to peer
sync.sync_with_peer(&address, Some(&tree_id)).await?;
    // end of block
    assert!(own.has_database(tree_id)?);
    Ok::<(), Error>(())
    })?;
    Ok(())
}

/// On loopback; through a relay in `eidetica-transport-iroh`.
#[cfg(feature = "iroh")]
#[test]
fn transports_iroh() -> Result<()> {
    use eidetica::sync::IrohConfig;

    let two = two();
    let tree_id = two.tree_id;
    let peer = two.server.sync()?;
    peer.stop_server()?;
    peer.enable_iroh_transport_with(IrohConfig::local())?;
    peer.start_server("127.0.0.1:0")?;
    assert_eq!(peer.get_server_addresses().len(), 2, "both at once");
    let peer_address_json = peer.get_server_addresses()[1].to_json().unwrap();
    let own = instance().enable_sync()?;
    let sync = own.sync()?;
    block_on(async {
    // guide block 6
// Enable Iroh transport (uses production relay servers by default)
sync.enable_iroh_transport_with(IrohConfig::local())?;

// Start server
sync.start_server_async("ignored").await?; // Iroh manages its own addressing

// Get address to share with peers
let my_address = sync.get_server_address_async().await?;

// Connect to peer
sync.sync_with_peer(&peer_address_json, Some(&tree_id)).await?;
    // end of block
    assert!(own.has_database(tree_id)?);
    // The address is one string for every use, and the key in it that of the device.
    assert_eq!(my_address.to_string().parse::<Address>()?, my_address);
    assert_eq!(my_address.key(), Some(&own.device_key().public_key()));
    let back = two.server.sync()?;
    assert_eq!(back.connect_to_peer(&my_address).await?, own.device_key());
    Ok::<(), Error>(())
    })?;
    Ok(())
}

#[test]
fn periodic_intervals() -> Result<()> {
    // guide block 7
extern crate eidetica;
use eidetica::{Instance, backend::database::InMemory, crdt::Doc};
use eidetica::user::types::{DatabasePreferences, SyncSettings};

fn main() -> eidetica::Result<()> {
let backend = Box::new(InMemory::new());
let instance = Instance::open(backend)?;
instance.enable_sync()?;
instance.create_user("alice", None)?;
let mut user = instance.login_user("alice", None)?;
let mut settings = Doc::new();
settings.set_string("name", "my_db");
let key = user.get_default_key()?;
let db = user.create_database(settings, &key)?;
let db_id = db.root_id().clone();
// Configure periodic sync every 60 seconds
let prefs = DatabasePreferences {
    database_id: db_id,
    key_id: user.get_default_key()?,
    sync_settings: SyncSettings {
        sync_enabled: true,
        sync_on_commit: false,
        interval_seconds: Some(60),  // Sync every 60 seconds
        properties: Default::default(),
    },
};

user.add_database(prefs)?;
Ok(())
}
    // end of block
    main()?;
    Ok(())
}

#[test]
fn intervals_of_several_users() -> Result<()> {
    let instance = instance().enable_sync()?;
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let shared_db_id = database(&alice, "shared").root_id();
    let key_id = alice.get_default_key()?;
    bob.import_private_key(alice.export_private_key(key_id, None)?, Some("shared"))?;
    let prefs = DatabasePreferences { database_id: shared_db_id, key_id, sync_settings: SyncSettings::default() };
    // guide block 8
// Alice syncs every 300 seconds
alice.add_database(DatabasePreferences {
    database_id: shared_db_id.clone(),
    sync_settings: SyncSettings {
        interval_seconds: Some(300),
        ..Default::default()
    },
    ..prefs
})?;

// Bob syncs every 60 seconds
bob.add_database(DatabasePreferences {
    database_id: shared_db_id.clone(),
    sync_settings: SyncSettings {
        interval_seconds: Some(60),
        ..Default::default()
    },
    ..prefs
})?;

// Database will sync every 60 seconds (minimum of 300 and 60)
    // end of block
    let status = instance.sync()?.database_status(shared_db_id)?;
    assert_eq!((status.interval_seconds, status.on_commit), (Some(60), false));
    assert_eq!(alice.database_prefs(shared_db_id)?.sync_settings.interval_seconds, Some(300));
    assert_eq!(bob.database_prefs(shared_db_id)?.sync_settings.interval_seconds, Some(60));
    Ok(())
}

#[test]
fn peer_management() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    block_on(async {
    // guide block 9
// Automatic peer connection, handshake, and sync in one call
sync.sync_with_peer(&address, Some(&tree_id)).await?;

// This automatically:
// 1. Performs handshake with the peer
// 2. Registers the peer if not already known
// 3. Bootstraps the database if it doesn't exist locally
// 4. Performs incremental sync if database exists locally
// 5. Stores peer information for future sync operations

// For subsequent sync operations with the same peer
sync.sync_with_peer(&address, Some(&tree_id)).await?;
// Reuses existing peer registration and performs incremental sync
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    assert_eq!(sync.list_peers()?.len(), 1);
    Ok(())
}

#[test]
fn manual_peer_management() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let peer_key = two.server.device_key();
    let elsewhere = format!("{}@relay", peer_key.to_string().trim_start_matches("ed25519:"));
    block_on(async {
    // guide block 10
// Register a peer manually
sync.register_peer(&peer_key, Some("Alice's Device"))?;

// Add multiple addresses for the same peer
sync.add_peer_address(&peer_key, Address::http(&address)?)?;
sync.add_peer_address(&peer_key, Address::iroh(&elsewhere)?)?;

// Use low-level sync method with registered peers
sync.sync_tree_with_peer(&peer_key, &tree_id).await?;
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    assert_eq!(sync.get_peer_info(&peer_key)?.map(|info| info.addresses.len()), Some(2));
    Ok(())
}

#[test]
fn peer_information() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let peer_key = block_on(sync.connect_to_peer(&address))?;
    assert_eq!(sync.list_peers()?.len(), 1);
    // guide block 11
// Get peer information (after connecting)
if let Some(peer_info) = sync.get_peer_info(&peer_key)? {
    println!("Peer: {} ({})",
             peer_info.display_name.unwrap_or("Unknown".to_string()),
             peer_info.status);
}

// List all registered peers
let peers = sync.list_peers()?;
for peer in peers {
    println!("Peer: {} - {}", peer.pubkey, peer.display_name.unwrap_or("Unknown".to_string()));
}
    // end of block
    Ok(())
}

#[test]
fn tracking_a_database() -> Result<()> {
    let user = user(&instance(), "alice");
    let db_id = database(&user, "notes").root_id();
    // guide block 12
// Configure preferences for a database
let prefs = DatabasePreferences {
    database_id: db_id.clone(),
    key_id: user.get_default_key()?,
    sync_settings: SyncSettings {
        sync_enabled: true,
        sync_on_commit: false,
        interval_seconds: Some(60),  // Sync every 60 seconds
        properties: Default::default(),
    },
};

// Add to user's tracked databases
user.add_database(prefs)?;
    // end of block
    assert_eq!(user.database_prefs(&db_id)?.sync_settings.interval_seconds, Some(60));
    Ok(())
}

#[test]
fn managing_tracked_databases() -> Result<()> {
    let user = user(&instance(), "alice");
    let db_id = database(&user, "notes").root_id();
    let (key_id, sync_settings) = (user.get_default_key()?, SyncSettings::default());
    user.add_database(DatabasePreferences { database_id: db_id, key_id, sync_settings })?;
    // guide block 13
// List all tracked databases
let databases = user.list_database_prefs()?;
for db_prefs in databases {
    println!("Database: {}", db_prefs.database_id);
    println!("  Syncing: {}", db_prefs.sync_settings.sync_enabled);
}

// Get preferences for a specific database
let prefs = user.database_prefs(&db_id)?;

// Update sync preferences
let mut updated_prefs = prefs.clone();
updated_prefs.sync_settings.sync_enabled = false;
user.set_prefs(updated_prefs.database_prefs)?;

// Remove a database from tracking
user.remove_database(&db_id)?;
    // end of block
    assert!(user.list_database_prefs()?.is_empty());
    Ok(())
}

#[test]
fn loading_a_tracked_database() -> Result<()> {
    let user = user(&instance(), "alice");
    let db_id = database(&user, "notes").root_id();
    let (key_id, sync_settings) = (user.get_default_key()?, SyncSettings::default());
    user.add_database(DatabasePreferences { database_id: db_id, key_id, sync_settings })?;
    // guide block 14
// Load a tracked database
let database = user.open_database(&db_id)?;

// The user's configured key and SigKey are automatically used
// You can now work with the database normally
    // end of block
    write(&database, "a", "1")?;
    assert_eq!(read(&database, "a").as_deref(), Some("1"));
    Ok(())
}

#[test]
fn preferences_of_several_users() -> Result<()> {
    let instance = instance();
    let (alice_user, bob_user) = (user(&instance, "alice"), user(&instance, "bob"));
    let (alice_key, bob_key) = (alice_user.get_default_key()?, bob_user.get_default_key()?);
    let shared_db_id = database(&alice_user, "shared").root_id();
    // guide block 15
// Alice wants to sync this database every minute
alice_user.add_database(DatabasePreferences {
    database_id: shared_db_id.clone(),
    key_id: alice_key.clone(),
    sync_settings: SyncSettings {
        sync_enabled: true,
        interval_seconds: Some(60),
        ..Default::default()
    },
})?;

// Bob wants to sync the same database, but only on commit
bob_user.add_database(DatabasePreferences {
    database_id: shared_db_id.clone(),
    key_id: bob_key.clone(),
    sync_settings: SyncSettings {
        sync_enabled: true,
        sync_on_commit: true,
        interval_seconds: None,
        ..Default::default()
    },
})?;
    // end of block
    assert!(!alice_user.database_prefs(shared_db_id)?.sync_settings.sync_on_commit);
    assert!(bob_user.database_prefs(shared_db_id)?.sync_settings.sync_on_commit);
    Ok(())
}

#[test]
fn authentication() -> Result<()> {
    // guide block 16
extern crate eidetica;
use eidetica::{Instance, backend::database::InMemory, crdt::Doc};

fn main() -> eidetica::Result<()> {
// Setup database instance with sync capability
let backend = Box::new(InMemory::new());
let instance = Instance::open(backend)?;
instance.enable_sync()?;

// The sync system automatically uses your user's key for authentication
// Create and login a user (generates the primary key)
instance.create_user("alice", None)?;
let mut user = instance.login_user("alice", None)?;

// User can add additional keys if needed for backup or multiple devices
user.add_private_key(Some("backup_key"))?;

// Create a database with default authentication
let mut settings = Doc::new();
settings.set_string("name", "my_sync_database");
let default_key = user.get_default_key()?;
let database = user.create_database(settings, &default_key)?;

// Set a specific key as default for a database (configuration pattern)
// In production: database.set_default_auth_key("backup_key");
println!("Authentication keys configured for sync operations");
Ok(())
}
    // end of block
    main()?;
    Ok(())
}

#[test]
fn bootstrap_by_a_wildcard() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let (instance, sync) = (&two.client, two.client.sync()?);
    instance.create_user("admin", Some("admin_password"))?;
    block_on(async {
    // guide block 17
// Configure database with global wildcard permission (server side)
let mut settings = Doc::new();
settings.set_string("name", "Team Database");

let mut auth_doc = Doc::new();

// Add global wildcard permission for team collaboration
auth_doc.set_json("*", serde_json::json!({
    "pubkey": "*",
    "permissions": {"Write": 10},
    "status": "Active"
}))?;

settings.set_doc("auth", auth_doc);

// Create the database owned by the admin, with anyone able to write
let admin = instance.login_user("admin", Some("admin_password"))?;
let admin_key = admin.get_default_key()?;
let database = admin.create_database(settings, &admin_key)?;

// Bootstrap authentication example (client side)
sync.sync_with_peer_for_bootstrap(
    &address,
    &tree_id,
    "my_device_key",
    Permission::Write(15)  // Request write access
).await?;  // Will succeed via global permission

// After successful bootstrap, the device can write to the database
let op = database.new_authenticated_operation("my_device_key")?;
// ... make changes ...
op.commit()?;
    // end of block
    assert_eq!(database.name()?.as_deref(), Some("Team Database"));
    let op = two.bob.open_database(tree_id)?.new_authenticated_operation("my_device_key")?;
    op.doc("data")?.set("b", "2")?;
    assert!(op.commit()?.is_some());
    sync.sync_with_peer(&address, Some(&tree_id)).await?;
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    assert_eq!(read(&two.theirs, "b").as_deref(), Some("2"));
    Ok(())
}

#[test]
fn peer_verification() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let addr = Address::http(&address)?;
    block_on(async {
    // guide block 18
// The connect_to_peer method automatically:
// 1. Exchanges public keys
// 2. Verifies signatures
// 3. Registers the verified peer
let verified_peer_key = sync.connect_to_peer(&addr).await?;
    // end of block
    assert_eq!(verified_peer_key, two.server.device_key());
    Ok::<(), Error>(())
    })?;
    Ok(())
}

#[test]
fn server_status() -> Result<()> {
    let (server, address) = server();
    let sync = server.sync()?;
    // guide block 19
// Entries are synced immediately when committed
// No manual queue management needed

// The background thread handles:
// - Immediate sending of new entries
// - Retry queue with exponential backoff
// - Periodic sync every 5 minutes
// - Connection health checks every minute

// Server status
let is_running = sync.is_server_running();
let server_addr = sync.get_server_address()?;
    // end of block
    assert!(is_running);
    assert_eq!(server_addr, address);
    Ok(())
}

#[test]
fn sync_state() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    block_on(sync.sync_with_peer(&address, Some(&tree_id)))?;
    let peer_key = two.server.device_key();
    // guide block 20
use eidetica::sync::state::SyncStateManager;

// Get sync state for a database-peer relationship
let op = sync.sync_tree().new_operation()?;
let state_manager = SyncStateManager::new(&op);

let cursor = state_manager.get_sync_cursor(&peer_key, &tree_id)?;
println!("Last synced: {:?}", cursor.last_synced_entry);

let metadata = state_manager.get_sync_metadata(&peer_key)?;
println!("Success rate: {:.2}%", metadata.sync_success_rate() * 100.0);
    // end of block
    assert_eq!(cursor.last_synced_entry, two.theirs.tips()?.last().map(|tip| tip.id));
    assert!((metadata.sync_success_rate() - 1.0).abs() < f64::EPSILON);
    Ok(())
}

#[test]
fn one_method_for_both_ways() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    block_on(async {
    // guide block 21
// Works whether you have the database locally or not
sync.sync_with_peer(&address, Some(&tree_id)).await?;
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn use_case_chat() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let text = tree_id.to_string();
    block_on(async {
    // guide block 22
// Join a chat room by ID
let room_id = text.as_str();
sync.sync_with_peer(&address, Some(&room_id)).await?;
// Now you have the full chat history and can participate
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn use_case_documents() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let text = tree_id.to_string();
    block_on(async {
    // guide block 23
// Join a collaborative document
let doc_id = text.as_str();
sync.sync_with_peer(&address, Some(&doc_id)).await?;
// You now have the full document and can make edits
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn use_case_data() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let app_data_id = tree_id;
    block_on(async {
    // guide block 24
// Sync application data to a new device
sync.sync_with_peer(&address, Some(&app_data_id)).await?;
// All your application data is now available locally
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn the_simple_and_the_manual_way() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    let (pubkey, addr) = (two.server.device_key(), Address::http(&address)?);
    block_on(async {
    // guide block 25
// ✅ Recommended: Automatic connection and sync
sync.sync_with_peer(&address, Some(&tree_id)).await?;

// ❌ Avoid: Manual peer setup (unless you need fine control)
sync.register_peer(&pubkey, Some("Alice"))?;
sync.add_peer_address(&pubkey, addr)?;
sync.sync_tree_with_peer(&pubkey, &tree_id).await?;
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn discovery() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    let sync = two.client.sync()?;
    block_on(async {
    // guide block 26
let available = sync.discover_peer_trees(&address).await?;
for tree in available {
    if tree.name == "My Project" {
        sync.sync_with_peer(&address, Some(&tree.tree_id)).await?;
        break;
    }
}
    // end of block
    Ok::<(), Error>(())
    })?;
    two.assert_in_sync();
    Ok(())
}

#[test]
fn custom_write_callback() -> Result<()> {
    let two = two();
    let (address, tree_id) = (two.address.clone(), two.tree_id);
    block_on(two.client.sync()?.sync_with_peer(&address, Some(&tree_id)))?;
    let (instance, database) = (&two.client, two.bob.open_database(tree_id)?);
    // Not on commit: what arrives was sent by the callback.
    let (key_id, sync_settings) = (two.bob.get_default_key()?, SyncSettings::default());
    two.bob.add_database(DatabasePreferences { database_id: tree_id, key_id, sync_settings })?;
    let (arrived, arrivals) = std::sync::mpsc::channel();
    two.theirs.on_remote_write(move |entry, _, _| {
        let _ = arrived.send(entry.id());
        Ok(())
    })?;
    let peer_public_key = two.server.device_key();
    // guide block 27
use std::sync::Arc;

// Get the sync instance
let sync = instance.sync().expect("Sync not enabled");

// Set up a write callback to trigger sync
let sync_clone = sync.clone();
let peer_pubkey = peer_public_key.to_string();
database.on_local_write(move |entry, db, _instance| {
    // Queue the entry for sync when it's committed
    sync_clone.queue_entry_for_sync(&peer_pubkey, entry.id(), db.root_id())
})?;
    // end of block
    write(&database, "b", "2")?;
    arrivals.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(read(&two.theirs, "b").as_deref(), Some("2"));
    Ok(())
}

#[test]
fn several_instances() -> Result<()> {
    block_on(async {
    // guide block 28
// Database 1
let db1 = Instance::open(Box::new(InMemory::new()))?.enable_sync()?;
db1.sync()?.enable_http_transport()?;
db1.sync()?.start_server("127.0.0.1:0")?;

// Database 2
let db2 = Instance::open(Box::new(InMemory::new()))?.enable_sync()?;
db2.sync()?.enable_http_transport()?;
db2.sync()?.start_server("127.0.0.1:0")?;

// Connect them
let addr = Address::http(&db1.sync()?.get_server_address()?.to_string())?;
let peer_key = db2.sync()?.connect_to_peer(&addr).await?;
    // end of block
    assert_eq!(peer_key, db1.device_key());
    Ok::<(), Error>(())
    })?;
    Ok(())
}
