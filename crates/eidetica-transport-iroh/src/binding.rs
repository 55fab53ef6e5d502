//! What both ends of one connection know and nobody else does.

use eidetica_transport::Binding;
use iroh::endpoint::{Connection, Side};

/// The label of the TLS exporter.
const LABEL: &[u8] = b"EXPORTER-eidetica-channel-v1";

/// What the binding is hashed with.
const CONTEXT: &str = "eidetica iroh channel binding v1";

/// The TLS exporter of the connection and the keys of both endpoints, that of the dialling one first: TLS 1.3 makes the
/// exporter before it has seen the client's certificate.
///
/// `None` while there is no exporter, which is never after the handshake.
pub(crate) fn of(connection: &Connection, own: &iroh::EndpointId) -> Option<Binding> {
    let remote = connection.remote_id();
    let (dialling, accepting) = match connection.side() {
        Side::Client => (own, &remote),
        Side::Server => (&remote, own),
    };
    let endpoints = [*dialling.as_bytes(), *accepting.as_bytes()].concat();
    let mut exported = [0; 32];
    connection
        .export_keying_material(&mut exported, LABEL, &endpoints)
        .ok()?;
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&exported).update(&endpoints);
    Some(Binding::new(*hasher.finalize().as_bytes()))
}
