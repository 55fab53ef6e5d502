//! Starting a node.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use eidetica_auth::SecretKey;
use eidetica_engine::{Engine, EngineConfig, ProcessId};
use eidetica_transport::Transport;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    Backend, NodeError, NodeHandle, NodeLimits,
    clock::now_ms,
    driver::{Driver, Keys},
    handle::{Changes, Shared},
    limits,
};

/// What a node is made of.
pub struct NodeConfig {
    /// The device key, one per process.
    pub device: SecretKey,
    /// The key to answer with as a service, where several processes answer for each other; the device key by default.
    pub service: Option<SecretKey>,
    /// The databases, settings and keys.
    pub backend: Arc<dyn Backend>,
    /// The transports enabled at first; more with [`NodeHandle::enable`].
    pub transports: Vec<Arc<dyn Transport>>,
    /// What an operator may set.
    pub limits: NodeLimits,
}

/// The driver thread, from outside.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node on a thread of its own: reads the records of the last time, then takes commands. It stops when
    /// [`NodeHandle::shutdown`] says so or the last handle is dropped.
    ///
    /// # Errors
    /// The records cannot be read, or the system gives no thread.
    pub fn start(config: NodeConfig) -> Result<NodeHandle, NodeError> {
        let NodeConfig {
            device,
            service,
            backend,
            transports,
            limits,
        } = config;
        let records = backend
            .load()
            .map_err(|error| NodeError::Backend(error.to_string()))?;
        let wishes = backend
            .wishes()
            .map_err(|error| NodeError::Backend(error.to_string()))?;
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_ref()));
        let engine_config = EngineConfig {
            device: device.public(),
            seed: rand::random(),
            wishes,
            process: backend.is_shared().then(|| ProcessId::new(rand::random())),
        };
        let engine = Engine::restore(engine_config, records, now_ms())?;
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine),
            transports: Mutex::default(),
            addresses: Mutex::default(),
            claims: watch::Sender::new(0),
            changes: Changes::default(),
            written: Notify::new(),
            stopped: AtomicBool::new(false),
            limits,
        });
        let (events, commands) = mpsc::channel(limits::EVENTS);
        let handle = NodeHandle {
            shared: Arc::clone(&shared),
            events,
            next: Arc::new(AtomicU64::new(0)),
        };
        transports
            .into_iter()
            .for_each(|transport| handle.enable(transport));
        let hinted = Arc::downgrade(&shared);
        let watch = backend.watch(Arc::new(move || {
            if let Some(shared) = hinted.upgrade() {
                shared.written.notify_one();
            }
        }));
        let device = Arc::new(device);
        let keys = Keys {
            service: service.map_or_else(|| Arc::clone(&device), Arc::new),
            device,
        };
        let driver = Driver::new(
            shared,
            keys,
            (backend, watch),
            commands,
            Arc::clone(&handle.next),
        );
        let start = |error: std::io::Error| NodeError::Start(error.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(limits::BLOCKING)
            .thread_name("eidetica-worker")
            .enable_all()
            .build()
            .map_err(start)?;
        std::thread::Builder::new()
            .name("eidetica-node".to_owned())
            .spawn(move || {
                let ended = runtime.block_on(driver.run());
                runtime.shutdown_timeout(limits.shutdown);
                if let Some((reply, result)) = ended {
                    // Whoever does not wait does not need to know.
                    let _ = reply.send(result);
                }
            })
            .map_err(start)?;
        Ok(handle)
    }
}
