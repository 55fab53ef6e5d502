//! The server: a listener, its connections, and three POST routes.
//!
//! - `/eidetica/v1/open`: a handshake message in, one out; a channel begins.
//! - `/eidetica/v1/request`: a request on a channel, both directions streamed.
//! - `/eidetica/v1/close`: a request number and its end, authenticated; the channel is forgotten.
//!
//! Everything else is answered with a status and no body.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Extension, Router,
    body::Body,
    extract::{FromRequestParts, State},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderValue},
        request::Parts,
    },
    response::Response,
    routing::post,
};
use bytes::BytesMut;
use eidetica_transport::{
    Address, Binding, Budget, FrameSink, FrameStream, Listener, ServerChannel, TransportError, pipe,
};
use futures::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Limited};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    body::{Arrivals, Opened, Rest, Sealed},
    connections::{Admitted, Connection, Connections},
    io::Guarded,
    limits::{self, HttpLimits},
    noise,
    record::{Kind, Opener, Sealer},
    session::{Request as ChannelRequest, Session, Sessions},
};

/// The media type of every body, which a web page cannot send across origins without asking first.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.eidetica";

pub(crate) const OPEN: &str = "/eidetica/v1/open";
pub(crate) const REQUEST: &str = "/eidetica/v1/request";
pub(crate) const CLOSE: &str = "/eidetica/v1/close";

/// After which pause the system is asked again for a connection that it could not give.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// How often expired channels are looked for, at the least.
const SWEEP: Duration = Duration::from_secs(1);

/// What the tasks of a server share.
struct Server {
    limits: HttpLimits,
    sessions: Sessions,
    connections: Arc<Connections>,
    budget: Arc<Budget>,
    accepted: mpsc::Sender<HttpServerChannel>,
    /// Cancelled to let connections finish what they do.
    draining: CancellationToken,
}

/// Listens on a socket.
pub(crate) struct HttpListener {
    address: Address,
    server: Arc<Server>,
    accepted: mpsc::Receiver<HttpServerChannel>,
    tasks: Vec<JoinHandle<()>>,
    connections: TaskTracker,
    /// Cancelled to end everything at once.
    dropped: CancellationToken,
}

impl HttpListener {
    pub(crate) async fn bind(bind: &str, limits: HttpLimits) -> Result<Self, TransportError> {
        let refused = |detail: String| TransportError::Bind {
            bind: bind.to_owned(),
            detail,
        };
        let place = with_port(bind.trim().trim_start_matches("http://"));
        let socket = TcpListener::bind(&place)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => TransportError::InUse {
                    bind: bind.to_owned(),
                },
                _ => refused(error.to_string()),
            })?;
        let local: SocketAddr = socket
            .local_addr()
            .map_err(|error| refused(error.to_string()))?;
        let address =
            Address::http(&local.to_string()).map_err(|error| refused(error.to_string()))?;
        let (accepted, taken) = mpsc::channel(limits::ACCEPT_QUEUE);
        let server = Arc::new(Server {
            limits,
            sessions: Sessions::new(limits),
            connections: Arc::new(Connections::new(limits.connections)),
            budget: Budget::new(limits.reassembly_bytes),
            accepted,
            draining: CancellationToken::new(),
        });
        let (connections, dropped) = (TaskTracker::new(), CancellationToken::new());
        let accept = accept_loop(
            Arc::clone(&server),
            socket,
            connections.clone(),
            dropped.clone(),
        );
        let sweep = sweep_loop(Arc::clone(&server));
        let tasks = vec![tokio::spawn(accept), tokio::spawn(sweep)];
        Ok(Self {
            address,
            server,
            accepted: taken,
            tasks,
            connections,
            dropped,
        })
    }
}

/// Puts the default port behind a host that has none.
fn with_port(bind: &str) -> String {
    let bracketed = bind.starts_with('[') && bind.ends_with(']');
    if bracketed || !bind.contains(':') {
        format!("{bind}:{}", eidetica_transport::DEFAULT_HTTP_PORT)
    } else {
        bind.to_owned()
    }
}

#[async_trait]
impl Listener for HttpListener {
    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn accept(&mut self) -> Result<Box<dyn ServerChannel>, TransportError> {
        if self.server.draining.is_cancelled() {
            return Err(TransportError::Closed);
        }
        match self.accepted.recv().await {
            Some(channel) => Ok(Box::new(channel)),
            None => Err(TransportError::Closed),
        }
    }

    async fn shutdown(&mut self) {
        self.server.draining.cancel();
        for task in self.tasks.drain(..) {
            // Ends by itself; an error would be its panic, which is logged by the runtime.
            let _ = task.await;
        }
        self.connections.close();
        if tokio::time::timeout(self.server.limits.shutdown, self.connections.wait())
            .await
            .is_err()
        {
            tracing::debug!(address = %self.address, "requests still run: dropped");
            self.dropped.cancel();
            self.connections.wait().await;
        }
        self.server.sessions.close_all();
    }
}

impl Drop for HttpListener {
    fn drop(&mut self) {
        self.server.draining.cancel();
        self.dropped.cancel();
        self.server.sessions.close_all();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept_loop(
    server: Arc<Server>,
    socket: TcpListener,
    tasks: TaskTracker,
    dropped: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.draining.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let Some(place) = server.connections.admit() else {
                    tracing::debug!(%remote, "no room for another connection");
                    continue;
                };
                // Without it small chunks wait for acknowledgements; a socket that refuses is only slower.
                let _ = stream.set_nodelay(true);
                let io = Guarded::new(stream, server.limits.idle);
                tasks.spawn(serve(
                    Arc::clone(&server),
                    io,
                    remote,
                    place,
                    dropped.clone(),
                ));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                server.connections.drop_one();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn sweep_loop(server: Arc<Server>) {
    let pause = SWEEP
        .min(server.limits.handshake / 2)
        .min(server.limits.idle / 2);
    loop {
        tokio::select! {
            () = server.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => server.sessions.sweep(),
        }
    }
}

/// Serves one connection until it ends, is dropped, or has finished what it did when the server drains.
async fn serve(
    server: Arc<Server>,
    io: Guarded,
    remote: SocketAddr,
    place: Admitted,
    dropped: CancellationToken,
) {
    let connection = Arc::clone(&place.connection);
    let caller = Caller {
        connection: Arc::clone(&connection),
        remote,
    };
    let service = TowerToHyperService::new(routes(&server).layer(Extension(caller)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(server.limits.head)
        .max_buf_size(limits::CONNECTION_BUFFER)
        .max_header_size(limits::HEADER_BYTES)
        .max_headers(limits::HEADERS);
    let mut serving = pin!(http.serve_connection(TokioIo::new(io), service));
    let mut draining = pin!(server.draining.cancelled().fuse());
    loop {
        tokio::select! {
            biased;
            () = dropped.cancelled() => return,
            () = connection.dropped.cancelled() => return,
            () = &mut draining, if !server_drains(&draining) => serving.as_mut().graceful_shutdown(),
            done = &mut serving => {
                if let Err(error) = done {
                    tracing::trace!(%remote, %error, "connection ended");
                }
                return;
            }
        }
    }
}

fn server_drains<F: futures::future::FusedFuture>(draining: &F) -> bool {
    draining.is_terminated()
}

/// Who is at the other end of a connection.
#[derive(Clone)]
struct Caller {
    connection: Arc<Connection>,
    remote: SocketAddr,
}

fn routes(server: &Arc<Server>) -> Router {
    let nothing = || async { refuse(StatusCode::NOT_FOUND) };
    Router::new()
        .route(OPEN, post(open_route))
        .route(REQUEST, post(request_route))
        .route(CLOSE, post(close_route))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .with_state(Arc::clone(server))
}

/// Refuses bodies of any media type but ours.
struct OurMediaType;

impl<S: Sync> FromRequestParts<S> for OurMediaType {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let found = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        match found == Some(MEDIA_TYPE.as_bytes()) {
            true => Ok(Self),
            false => Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        }
    }
}

async fn open_route(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    _: OurMediaType,
    body: Body,
) -> Response {
    open(&server, caller.remote, body)
        .await
        .unwrap_or_else(refuse)
}

async fn request_route(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    _: OurMediaType,
    body: Body,
) -> Response {
    match begin(&server, body).await {
        Ok(begun) => respond(&server, &caller.connection, begun),
        Err((status, arrivals)) => refuse_slowly(status, arrivals),
    }
}

async fn close_route(State(server): State<Arc<Server>>, _: OurMediaType, body: Body) -> Response {
    match begin(&server, body).await {
        Ok(begun) => {
            server.sessions.close(&begun.session.id);
            refuse(StatusCode::OK)
        }
        Err((status, arrivals)) => refuse_slowly(status, arrivals),
    }
}

fn refuse(status: StatusCode) -> Response {
    response(status, Body::empty())
}

/// Refuses a request whose body may still be on its way: the answer goes out first, then some of the body is read.
fn refuse_slowly(status: StatusCode, arrivals: Arrivals) -> Response {
    let nothing = futures::stream::once(arrivals.linger())
        .filter_map(|()| async { None::<io::Result<Vec<u8>>> });
    response(status, Body::from_stream(nothing))
}

fn response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// Makes a channel.
async fn open(
    server: &Arc<Server>,
    remote: SocketAddr,
    body: Body,
) -> Result<Response, StatusCode> {
    let collected = Limited::new(body, noise::FIRST).collect();
    let body = tokio::time::timeout(server.limits.handshake, collected)
        .await
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
        .map_err(|_| StatusCode::BAD_REQUEST)?
        .to_bytes();
    let message: &[u8; noise::FIRST] = body
        .as_ref()
        .try_into()
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    // A place in the queue first: whoever is not taken costs no key exchange.
    let place = server
        .accepted
        .try_reserve()
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let id = rand::random();
    let (answer, keys) = noise::respond(message, &id).map_err(|_| StatusCode::BAD_REQUEST)?;
    let (session, requests) = server.sessions.open(id, keys);
    place.send(HttpServerChannel {
        server: Arc::clone(server),
        session,
        requests,
        remote,
    });
    Ok(response(StatusCode::OK, Body::from(answer.to_vec())))
}

/// A request whose first chunk is authentic and whose number is new.
struct Begun {
    session: Arc<Session>,
    requests: mpsc::Sender<ChannelRequest>,
    number: u32,
    opener: Opener,
    arrivals: Arrivals,
}

/// Reads the beginning of a request. On refusal, gives the body back to be read a little longer.
async fn begin(server: &Server, body: Body) -> Result<Begun, (StatusCode, Arrivals)> {
    let mut arrivals = Arrivals::new(body.into_data_stream(), server.limits.handshake);
    let begun = async {
        let id = arrivals
            .exactly::<{ noise::ID }>()
            .await
            .map_err(|_| StatusCode::BAD_REQUEST)?;
        let number = arrivals
            .exactly::<4>()
            .await
            .map_err(|_| StatusCode::BAD_REQUEST)?;
        let number = u32::from_le_bytes(number);
        let chunk = arrivals
            .chunk()
            .await
            .map_err(|_| StatusCode::BAD_REQUEST)?;
        let (session, requests) = server.sessions.find(&id).ok_or(StatusCode::GONE)?;
        if !session.window.lock().is_fresh(number) {
            return Err(StatusCode::CONFLICT);
        }
        let mut opener = Opener::new(Arc::clone(&session.keys), number);
        match opener.open(&chunk) {
            Ok((Kind::Keep, _)) => {}
            _ => return Err(StatusCode::BAD_REQUEST),
        }
        // Only now: a number that a stranger made up must not use up the peer's.
        if !session.window.lock().take(number) {
            return Err(StatusCode::CONFLICT);
        }
        Ok((session, requests, number, opener))
    };
    match begun.await {
        Ok((session, requests, number, opener)) => Ok(Begun {
            session,
            requests,
            number,
            opener,
            arrivals,
        }),
        Err(status) => Err((status, arrivals)),
    }
}

/// Hands a request to whoever serves its channel, and streams the response.
fn respond(server: &Arc<Server>, connection: &Arc<Connection>, begun: Begun) -> Response {
    let Begun {
        session,
        requests,
        number,
        opener,
        arrivals,
    } = begun;
    let Some(running) = session.begin(connection, &server.limits) else {
        return refuse_slowly(StatusCode::SERVICE_UNAVAILABLE, arrivals);
    };
    let place = match requests.try_reserve() {
        Ok(place) => place,
        Err(mpsc::error::TrySendError::Closed(())) => {
            return refuse_slowly(StatusCode::GONE, arrivals);
        }
        Err(mpsc::error::TrySendError::Full(())) => {
            return refuse_slowly(StatusCode::SERVICE_UNAVAILABLE, arrivals);
        }
    };
    let (sink, frames) = pipe();
    let sealer = Sealer::new(Arc::clone(&session.keys), number);
    let (progress, keep_alive) = (frames.progress().clone(), server.limits.keep_alive);
    let Ok(sealed) = Sealed::new(frames, progress, sealer, BytesMut::new(), keep_alive) else {
        return refuse_slowly(StatusCode::INTERNAL_SERVER_ERROR, arrivals);
    };
    let rest = Rest::default();
    let limited = Arc::clone(&session);
    let opened = Opened::new(
        arrivals.with_idle(server.limits.idle),
        opener,
        &server.budget,
        Box::new(move || limited.frame_limit()),
    )
    .with_rest(Arc::clone(&rest), running.clone());
    place.send((opened.frames(), sink));
    response(
        StatusCode::OK,
        Body::from_stream(sealed.with_rest(rest, running)),
    )
}

/// The server's end of a channel.
pub(crate) struct HttpServerChannel {
    server: Arc<Server>,
    session: Arc<Session>,
    requests: mpsc::Receiver<ChannelRequest>,
    remote: SocketAddr,
}

#[async_trait]
impl ServerChannel for HttpServerChannel {
    fn binding(&self) -> Binding {
        self.session.keys.binding()
    }

    fn remote(&self) -> String {
        self.remote.to_string()
    }

    fn mark_proven(&self) {
        self.server.sessions.mark_proven(&self.session);
    }

    async fn next_request(&mut self) -> Option<(FrameStream, FrameSink)> {
        self.requests.recv().await
    }
}

impl Drop for HttpServerChannel {
    fn drop(&mut self) {
        self.server.sessions.close(&self.session.id);
    }
}
