//! The in-memory transport: named endpoints in a shared [`Hub`], with faults on request.
//!
//! For tests, simulations and several instances in one process. It has back-pressure and cuts like a real one; it
//! encrypts nothing, since nothing leaves the process.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt, SinkExt, Stream, StreamExt,
    channel::{mpsc, oneshot},
    future::{BoxFuture, Shared},
};

use crate::{
    Address, Binding, Blame, Channel, FrameSink, FrameStream, Listener, Scheme, ServerChannel,
    Transport, TransportError, limits, pipe,
};

/// The place where in-memory endpoints find each other. A cheap handle.
#[derive(Clone, Default)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    endpoints: Mutex<HashMap<String, Endpoint>>,
    faults: Mutex<HashMap<String, Faults>>,
    channels: AtomicU64,
}

struct Endpoint {
    serial: u64,
    accept: mpsc::Sender<MemoryServerChannel>,
    gone: Gone,
    // Dropped with the endpoint, which resolves `gone` everywhere.
    _alive: oneshot::Sender<()>,
}

/// Resolves when an endpoint went away, by [`Hub::sever`] or because its listener was dropped.
type Gone = Shared<BoxFuture<'static, ()>>;

/// Called before each frame with its number in the stream; the frame goes on when the future is ready.
pub type Delay = Arc<dyn Fn(u64) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where a stream is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After so many frames.
    Frames(u64),
    /// After so many bytes of frames; the frame that would cross the mark is lost whole.
    Bytes(u64),
}

/// What goes wrong with the streams of new requests to one endpoint.
#[derive(Clone, Default)]
pub struct Faults {
    /// Where each stream towards the endpoint is cut.
    pub cut_requests: Option<Cut>,
    /// Where each stream from the endpoint is cut.
    pub cut_responses: Option<Cut>,
    /// What each frame waits for, in both directions.
    pub delay: Option<Delay>,
    /// Whether new channels to the endpoint are unreachable.
    pub unreachable: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub without endpoints.
    pub fn new() -> Self {
        Self::default()
    }

    /// A transport whose addresses are the endpoints of this hub.
    pub fn transport(&self) -> MemoryTransport {
        MemoryTransport { hub: self.clone() }
    }

    /// Sets what goes wrong on new requests to the endpoint `name`, which need not exist yet.
    pub fn set_faults(&self, name: &str, faults: Faults) {
        lock(&self.inner.faults).insert(name.to_owned(), faults);
    }

    /// Takes an endpoint away at once: its listener, channels and streams all fail.
    pub fn sever(&self, name: &str) {
        lock(&self.inner.endpoints).remove(name);
    }

    fn faults(&self, name: &str) -> Faults {
        lock(&self.inner.faults)
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    fn next_serial(&self) -> u64 {
        self.inner.channels.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = lock(&self.inner.endpoints).keys().cloned().collect();
        f.debug_struct("Hub")
            .field("endpoints", &endpoints)
            .finish()
    }
}

/// Dials and listens in a [`Hub`].
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    hub: Hub,
}

#[async_trait]
impl Transport for MemoryTransport {
    fn scheme(&self) -> Scheme {
        Scheme::Memory
    }

    async fn connect(&self, address: &Address) -> Result<Box<dyn Channel>, TransportError> {
        if address.scheme() != Scheme::Memory {
            return Err(TransportError::Unsupported {
                address: address.clone(),
            });
        }
        let unreachable = |detail: &str| TransportError::Unreachable {
            address: address.clone(),
            detail: detail.to_owned(),
        };
        let name = address.host();
        if self.hub.faults(name).unreachable {
            return Err(unreachable("cut off by a fault"));
        }
        let (mut accept, gone) = lock(&self.hub.inner.endpoints)
            .get(name)
            .map(|endpoint| (endpoint.accept.clone(), endpoint.gone.clone()))
            .ok_or_else(|| unreachable("nobody listens"))?;
        let binding = memory_binding(self.hub.next_serial());
        let (requests, served) = mpsc::channel(limits::MEMORY_REQUESTS);
        let server = MemoryServerChannel {
            binding,
            requests: served,
            gone: gone.clone(),
        };
        let send = accept.send(server);
        futures::select_biased! {
            () = gone.clone() => return Err(unreachable("the endpoint went away")),
            sent = send.fuse() => sent.map_err(|_| unreachable("the endpoint went away"))?,
        }
        Ok(Box::new(MemoryChannel {
            hub: self.hub.clone(),
            name: name.to_owned(),
            binding,
            requests: Mutex::new(Some(requests)),
            gone,
        }))
    }

    async fn listen(&self, bind: &str) -> Result<Box<dyn Listener>, TransportError> {
        let address = Address::memory(bind).map_err(|error| TransportError::Bind {
            bind: bind.to_owned(),
            detail: error.to_string(),
        })?;
        let name = address.host().to_owned();
        let mut endpoints = lock(&self.hub.inner.endpoints);
        if endpoints.contains_key(&name) {
            return Err(TransportError::InUse {
                bind: bind.to_owned(),
            });
        }
        let (accept, accepted) = mpsc::channel(limits::MEMORY_BACKLOG);
        let (alive, gone) = oneshot::channel();
        let gone = gone.map(drop).boxed().shared();
        let serial = self.hub.next_serial();
        endpoints.insert(
            name,
            Endpoint {
                serial,
                accept,
                gone: gone.clone(),
                _alive: alive,
            },
        );
        Ok(Box::new(MemoryListener {
            hub: self.hub.clone(),
            address,
            serial,
            accepted,
            gone,
        }))
    }
}

/// Unique in the hub, which is all that a binding has to be.
fn memory_binding(serial: u64) -> Binding {
    let mut bytes = [0xed; 32];
    let (head, _) = bytes.split_at_mut(8);
    head.copy_from_slice(&serial.to_le_bytes());
    Binding::new(bytes)
}

struct MemoryListener {
    hub: Hub,
    address: Address,
    serial: u64,
    accepted: mpsc::Receiver<MemoryServerChannel>,
    gone: Gone,
}

impl MemoryListener {
    /// Takes the endpoint off the hub, unless it was severed and the name taken by another listener since.
    fn unlist(&self) {
        let mut endpoints = lock(&self.hub.inner.endpoints);
        if endpoints
            .get(self.address.host())
            .is_some_and(|endpoint| endpoint.serial == self.serial)
        {
            endpoints.remove(self.address.host());
        }
    }
}

#[async_trait]
impl Listener for MemoryListener {
    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn accept(&mut self) -> Result<Box<dyn ServerChannel>, TransportError> {
        futures::select_biased! {
            () = self.gone.clone() => Err(TransportError::Closed),
            channel = self.accepted.next() => match channel {
                Some(channel) => Ok(Box::new(channel) as Box<dyn ServerChannel>),
                None => Err(TransportError::Closed),
            },
        }
    }

    async fn shutdown(&mut self) {
        self.unlist();
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.unlist();
    }
}

struct MemoryChannel {
    hub: Hub,
    name: String,
    binding: Binding,
    requests: Mutex<Option<mpsc::Sender<(FrameStream, FrameSink)>>>,
    gone: Gone,
}

#[async_trait]
impl Channel for MemoryChannel {
    fn binding(&self) -> Binding {
        self.binding
    }

    async fn request(&self, body: FrameStream) -> Result<FrameStream, TransportError> {
        let mut requests = lock(&self.requests).clone().ok_or(TransportError::Closed)?;
        let faults = self.hub.faults(&self.name);
        let (sink, response) = pipe();
        let body = Link::new(
            body,
            self.gone.clone(),
            faults.cut_requests,
            faults.delay.clone(),
        );
        let response = Link::new(
            response.into(),
            self.gone.clone(),
            faults.cut_responses,
            faults.delay,
        );
        let sent = requests.send((FrameStream::new(body), sink));
        futures::select_biased! {
            () = self.gone.clone() => Err(TransportError::PeerGone),
            sent = sent.fuse() => match sent {
                Ok(()) => Ok(FrameStream::new(response)),
                Err(_) => Err(TransportError::UnknownChannel),
            },
        }
    }

    async fn close(&self) {
        lock(&self.requests).take();
    }
}

struct MemoryServerChannel {
    binding: Binding,
    requests: mpsc::Receiver<(FrameStream, FrameSink)>,
    gone: Gone,
}

#[async_trait]
impl ServerChannel for MemoryServerChannel {
    fn binding(&self) -> Binding {
        self.binding
    }

    fn remote(&self) -> String {
        "memory".to_owned()
    }

    fn mark_proven(&self) {}

    async fn next_request(&mut self) -> Option<(FrameStream, FrameSink)> {
        futures::select_biased! {
            () = self.gone.clone() => None,
            request = self.requests.next() => request,
        }
    }
}

/// What the next frame waits for.
enum Waiting {
    /// Not asked yet.
    Ask,
    /// The fault's delay.
    Delay(BoxFuture<'static, ()>),
    /// Only the frame itself.
    Frame,
}

/// One direction of a request as the receiver sees it: frames checked, faults applied, the sender's reasons hidden.
struct Link {
    frames: FrameStream,
    gone: Gone,
    cut: Option<Cut>,
    delay: Option<Delay>,
    waiting: Waiting,
    seen_frames: u64,
    seen_bytes: u64,
}

impl Link {
    fn new(frames: FrameStream, gone: Gone, cut: Option<Cut>, delay: Option<Delay>) -> Self {
        Self {
            frames,
            gone,
            cut,
            delay,
            waiting: Waiting::Ask,
            seen_frames: 0,
            seen_bytes: 0,
        }
    }

    /// Whether a frame, or the end (`None`), still gets through.
    fn passes(&self, frame: Option<&Bytes>) -> bool {
        let len = frame.map_or(0, |frame| frame.len() as u64);
        match self.cut {
            None => true,
            Some(Cut::Frames(limit)) => self.seen_frames < limit,
            Some(Cut::Bytes(limit)) => {
                self.seen_bytes + len <= limit && (frame.is_some() || self.seen_bytes < limit)
            }
        }
    }

    fn receive(&mut self, frame: Bytes) -> Result<Bytes, TransportError> {
        if frame.len() > limits::FRAME {
            return Err(TransportError::FrameTooLong {
                len: frame.len(),
                limit: limits::FRAME,
                by: Blame::Peer,
            });
        }
        if !self.passes(Some(&frame)) {
            return Err(TransportError::Truncated);
        }
        self.seen_frames += 1;
        self.seen_bytes += frame.len() as u64;
        Ok(frame)
    }
}

impl Stream for Link {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if Pin::new(&mut self.gone).poll(cx).is_ready() {
            return Poll::Ready(Some(Err(TransportError::PeerGone)));
        }
        if matches!(self.waiting, Waiting::Ask) {
            let delay = self.delay.as_ref().map(|delay| delay(self.seen_frames));
            self.waiting = delay.map_or(Waiting::Frame, Waiting::Delay);
        }
        if let Waiting::Delay(delay) = &mut self.waiting {
            std::task::ready!(delay.as_mut().poll(cx));
            self.waiting = Waiting::Frame;
        }
        let item = std::task::ready!(self.frames.poll_next_unpin(cx));
        self.waiting = Waiting::Ask;
        Poll::Ready(match item {
            Some(Ok(frame)) => Some(self.receive(frame)),
            Some(Err(_)) => Some(Err(TransportError::Truncated)),
            None if self.passes(None) => None,
            None => Some(Err(TransportError::Truncated)),
        })
    }
}
