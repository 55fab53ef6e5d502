//! What Iroh reports, in the words of transports.

use std::time::Duration;

use eidetica_transport::{Address, TransportError};
use iroh::endpoint::{
    ConnectError, ConnectWithOptsError, ConnectingError, ConnectionError, ReadError,
    TransportErrorCode, VarInt,
};

/// Why a connection is closed or a stream given up, as the peer is told.
pub(crate) mod code {
    use iroh::endpoint::VarInt;

    /// Nothing more is wanted.
    pub(crate) const DONE: VarInt = VarInt::from_u32(0);
    /// The channel is not known any more: dial again.
    pub(crate) const FORGOTTEN: VarInt = VarInt::from_u32(1);
    /// There is no room.
    pub(crate) const BUSY: VarInt = VarInt::from_u32(2);
    /// A stream that goes no further.
    pub(crate) const CUT: VarInt = VarInt::from_u32(3);
    /// Nobody has proven anything in time.
    pub(crate) const UNPROVEN: VarInt = VarInt::from_u32(4);
}

pub(crate) fn late(what: &'static str, after: Duration) -> TransportError {
    TransportError::TimedOut {
        what,
        after_ms: after.as_millis() as u64,
    }
}

/// Why a connection ended; `idle` is how long a peer may be silent.
pub(crate) fn of_connection(error: &ConnectionError, idle: Duration) -> TransportError {
    match error {
        ConnectionError::ApplicationClosed(close) => of_code(close.error_code),
        ConnectionError::LocallyClosed => TransportError::Closed,
        ConnectionError::TimedOut => late("sign of life", idle),
        ConnectionError::VersionMismatch | ConnectionError::TransportError(_) => {
            TransportError::Protocol {
                detail: "its packets are not those of QUIC as agreed",
            }
        }
        _ => TransportError::PeerGone,
    }
}

fn of_code(found: VarInt) -> TransportError {
    match found {
        code::FORGOTTEN => TransportError::UnknownChannel,
        code::BUSY => TransportError::Busy,
        _ => TransportError::PeerGone,
    }
}

/// Why a stream stopped.
pub(crate) fn of_read(error: ReadError, idle: Duration) -> TransportError {
    match error {
        ReadError::ConnectionLost(error) => of_connection(&error, idle),
        ReadError::Reset(code::FORGOTTEN) => TransportError::UnknownChannel,
        _ => TransportError::Truncated,
    }
}

/// Why there is no connection.
pub(crate) fn of_connect(
    error: &ConnectError,
    address: &Address,
    dial: Duration,
) -> TransportError {
    let unreachable = |detail: &str| TransportError::Unreachable {
        address: address.clone(),
        detail: detail.to_owned(),
    };
    let of_connection = |error: &ConnectionError| match error {
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            unreachable("that device does not serve")
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) =>
        {
            unreachable("that device speaks no version of this protocol")
        }
        ConnectionError::TransportError(error) if is_tls(error.code) => TransportError::Protocol {
            detail: "whoever answers there does not prove the key of the address",
        },
        ConnectionError::TimedOut => late("connection", dial),
        other => self::of_connection(other, dial),
    };
    match error {
        ConnectError::Connect { source, .. } => match source {
            ConnectWithOptsError::SelfConnect { .. } => unreachable("that is this device"),
            ConnectWithOptsError::NoAddress { .. } => {
                unreachable("no relay and no socket of that device is known, and none was found")
            }
            ConnectWithOptsError::EndpointClosed { .. } => TransportError::Closed,
            other => unreachable(&other.to_string()),
        },
        ConnectError::Connection { source, .. } => of_connection(source),
        ConnectError::Connecting { source, .. } => match source {
            ConnectingError::ConnectionError { source, .. } => of_connection(source),
            other => unreachable(&other.to_string()),
        },
        other => unreachable(&other.to_string()),
    }
}

/// Whether an error comes of the TLS handshake.
fn is_tls(code: TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// The TLS alert of a server that speaks none of the protocols offered.
const NO_APPLICATION_PROTOCOL: u8 = 120;
