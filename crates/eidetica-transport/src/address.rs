//! Addresses: where a peer can be dialled, as a validated value with one text form.
//!
//! Parsing does no look-up: a host name stays a name.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::{fmt, str::FromStr, sync::Arc};

use eidetica_entry::PublicKey;

use crate::{EndpointAddress, Relay, limits};

/// The TCP port of an HTTP address that names none.
pub const DEFAULT_HTTP_PORT: u16 = 4950;

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `http://host:port`.
    Http,
    /// `iroh://endpoint`, with a relay and sockets behind a `?`.
    Iroh,
    /// `memory://name`, within one process.
    Memory,
}

impl Scheme {
    /// Its text, without `://`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Iroh => "iroh",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a peer can be dialled, and, if pinned, which device key it must prove. Cheap to clone.
///
/// Text: `scheme://[device key@]place`; without a scheme it is HTTP, and without a port it is
/// [`DEFAULT_HTTP_PORT`]. IPv6 hosts stand in brackets. The place of an Iroh address, an [`EndpointAddress`], names the
/// device key itself; what begins with a brace is one in JSON.
///
/// ```
/// use eidetica_transport::Address;
///
/// assert_eq!(Address::http("Peer.example.com")?.to_string(), "http://peer.example.com:4950");
/// assert_eq!("[::1]:8080".parse::<Address>()?.to_string(), "http://[::1]:8080");
/// assert!("http://host:8080/path".parse::<Address>().is_err());
/// # Ok::<(), eidetica_transport::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    place: Place,
    key: Option<PublicKey>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Http { host: Arc<str>, port: u16 },
    Iroh(Arc<EndpointAddress>),
    Memory { name: Arc<str> },
}

/// Why a text is not an address. Reads as a fragment after "cannot connect: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no text, or nothing after the scheme.
    #[error("an address needs a host")]
    Empty,
    /// Longer than [`ADDRESS`](limits::ADDRESS) bytes.
    #[error("an address of {len} bytes is longer than {}", limits::ADDRESS)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A scheme that no transport has.
    #[error("unknown address scheme {0:?} (known: http, iroh, memory)")]
    Scheme(String),
    /// Another scheme than the one asked for.
    #[error("{text:?} is not an address of scheme {wanted}")]
    WrongScheme {
        /// The text.
        text: String,
        /// What was wanted.
        wanted: Scheme,
    },
    /// The host is neither a name, nor an IPv4 address, nor an IPv6 address in brackets.
    #[error("bad host {0:?}")]
    Host(String),
    /// An IPv6 address without brackets: where the port begins would be a guess.
    #[error("an IPv6 host needs brackets: [{0}]")]
    NeedsBrackets(String),
    /// Not a port from 1 to 65535.
    #[error("bad port {0:?}: not a number from 1 to 65535")]
    Port(String),
    /// A path, a query or a fragment.
    #[error("an address has no path, query or fragment: {0:?}")]
    Path(String),
    /// The device key before the `@` does not parse.
    #[error("bad device key {0:?} before the @")]
    Key(String),
    /// The name of an in-memory endpoint is empty, too long or has characters a URL would quote.
    #[error("bad endpoint name {0:?}")]
    Name(String),
    /// An Iroh endpoint that is not 64 hex digits.
    #[error("bad Iroh endpoint {0:?}: not 64 hex digits")]
    Endpoint(String),
    /// A relay that is no `https://host[:port]`.
    #[error("bad relay {0:?}: not https://host or https://host:port")]
    Relay(String),
    /// A socket that is no `ip:port`, or one where nobody can be.
    #[error("bad socket {0:?}: not ip:port of one machine")]
    Direct(String),
    /// More than [`DIRECT`](limits::DIRECT) sockets.
    #[error("more than {} sockets", limits::DIRECT)]
    TooManyDirect,
    /// Something else than one `relay=` and some `addr=` behind the `?` of an Iroh address.
    #[error("an Iroh address has one relay= and some addr= behind the ?, not {0:?}")]
    Query(String),
    /// JSON of another form than Iroh writes.
    #[error("not an Iroh address in JSON: {0}")]
    Json(String),
}

impl Address {
    /// An HTTP address: `host`, `host:port` or `[ipv6]:port`, with or without `http://`.
    ///
    /// # Errors
    /// The text is no such address.
    pub fn http(text: &str) -> Result<Self, AddressError> {
        Self::of_scheme(text, Scheme::Http)
    }

    /// An Iroh address: `endpoint`, `endpoint@relay` or `endpoint?relay=url&addr=ip:port`, with or without `iroh://`, or
    /// JSON as Iroh writes it.
    ///
    /// # Errors
    /// The text is no such address.
    pub fn iroh(text: &str) -> Result<Self, AddressError> {
        Self::of_scheme(text, Scheme::Iroh)
    }

    /// An in-memory address: the name of an endpoint, with or without `memory://`.
    ///
    /// # Errors
    /// The text is no such address.
    pub fn memory(text: &str) -> Result<Self, AddressError> {
        Self::of_scheme(text, Scheme::Memory)
    }

    /// The same address, where only the device with this key will do. An Iroh address says so itself: it stays as it
    /// is.
    #[must_use]
    pub fn with_key(mut self, key: PublicKey) -> Self {
        self.key = match &self.place {
            Place::Iroh(_) => None,
            _ => Some(key),
        };
        self
    }

    /// The same address without a pinned key: where, not who. That of Iroh is part of where.
    #[must_use]
    pub fn without_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// The device key that the peer must prove, if pinned.
    pub fn key(&self) -> Option<&PublicKey> {
        match &self.place {
            Place::Iroh(place) => Some(place.endpoint()),
            _ => self.key.as_ref(),
        }
    }

    /// Its kind.
    pub fn scheme(&self) -> Scheme {
        match &self.place {
            Place::Http { .. } => Scheme::Http,
            Place::Iroh(_) => Scheme::Iroh,
            Place::Memory { .. } => Scheme::Memory,
        }
    }

    /// The host without brackets, or the name of the endpoint.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Http { host, .. } => host,
            Place::Iroh(place) => place.name(),
            Place::Memory { name } => name,
        }
    }

    /// The TCP port of an HTTP address.
    pub fn port(&self) -> Option<u16> {
        match &self.place {
            Place::Http { port, .. } => Some(*port),
            _ => None,
        }
    }

    /// The place of an Iroh address.
    pub fn endpoint(&self) -> Option<&EndpointAddress> {
        match &self.place {
            Place::Iroh(place) => Some(place),
            _ => None,
        }
    }

    /// The relay of an Iroh address.
    pub fn relay(&self) -> Option<&Relay> {
        self.endpoint().and_then(EndpointAddress::relay)
    }

    /// Whether both say how to reach the same endpoint of Iroh: the newer one takes the place of the older.
    pub fn is_same_endpoint(&self, other: &Self) -> bool {
        let endpoint = |address: &Self| address.endpoint().map(|place| *place.endpoint());
        endpoint(self).is_some() && endpoint(self) == endpoint(other)
    }

    /// An Iroh address as Iroh itself writes it in JSON.
    pub fn to_json(&self) -> Option<String> {
        self.endpoint().map(EndpointAddress::to_json)
    }

    fn of_scheme(text: &str, wanted: Scheme) -> Result<Self, AddressError> {
        let text = text.trim();
        check_length(text)?;
        if text.starts_with('{') && wanted == Scheme::Iroh {
            return EndpointAddress::from_json(text).map(Self::from);
        }
        match text.split_once("://") {
            None => Self::parse_rest(wanted, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(wanted.as_str()) => {
                Self::parse_rest(wanted, rest)
            }
            Some(_) => Err(AddressError::WrongScheme {
                text: text.into(),
                wanted,
            }),
        }
    }

    fn parse_rest(scheme: Scheme, rest: &str) -> Result<Self, AddressError> {
        let (key, place) = match scheme {
            Scheme::Iroh => (None, rest),
            _ => split_key(rest)?,
        };
        let place = match scheme {
            Scheme::Http => parse_http(place)?,
            Scheme::Iroh => Place::Iroh(Arc::new(EndpointAddress::parse(place)?)),
            Scheme::Memory => Place::Memory {
                name: endpoint_name(place)?,
            },
        };
        Ok(Self { place, key })
    }
}

fn check_length(text: &str) -> Result<(), AddressError> {
    match text.len() {
        0 => Err(AddressError::Empty),
        len if len > limits::ADDRESS => Err(AddressError::TooLong { len }),
        _ => Ok(()),
    }
}

fn split_key(text: &str) -> Result<(Option<PublicKey>, &str), AddressError> {
    match text.rsplit_once('@') {
        None => Ok((None, text)),
        Some((key, place)) => {
            let key = key.parse().map_err(|_| AddressError::Key(key.into()))?;
            Ok((Some(key), place))
        }
    }
}

fn parse_http(text: &str) -> Result<Place, AddressError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = host_and_port(text)?;
    Ok(Place::Http {
        host,
        port: port.unwrap_or(DEFAULT_HTTP_PORT),
    })
}

/// `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; the host without brackets, names in lower case.
pub(crate) fn host_and_port(text: &str) -> Result<(Arc<str>, Option<u16>), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.contains(['/', '?', '#']) {
        return Err(AddressError::Path(text.into()));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once(']')
            .ok_or_else(|| AddressError::Host(text.into()))?;
        let host: Ipv6Addr = host.parse().map_err(|_| AddressError::Host(host.into()))?;
        let port = match port {
            "" => None,
            port => Some(parse_port(
                port.strip_prefix(':')
                    .ok_or_else(|| AddressError::Port(port.into()))?,
            )?),
        };
        return Ok((host.to_string().into(), port));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(AddressError::NeedsBrackets(text.into()));
    }
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((host, port)) => (host, Some(parse_port(port)?)),
    };
    if host.is_empty() {
        return Err(AddressError::Empty);
    }
    if !is_host_name(host) {
        return Err(AddressError::Host(host.into()));
    }
    Ok((host.to_ascii_lowercase().into(), port))
}

/// A host as it stands in a text: IPv6 in brackets.
pub(crate) fn write_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]")
    } else {
        f.write_str(host)
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(AddressError::Port(text.into())),
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // What looks like numbers and dots only has to be a real IPv4 address: resolvers disagree about the rest.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= limits::HOST
        && if numeric {
            text.parse::<Ipv4Addr>().is_ok()
        } else {
            name.split('.').all(label)
        }
}

fn endpoint_name(text: &str) -> Result<Arc<str>, AddressError> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    if (1..=limits::MEMORY_NAME).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.into())
    } else {
        Err(AddressError::Name(text.into()))
    }
}

impl From<EndpointAddress> for Address {
    fn from(place: EndpointAddress) -> Self {
        Self {
            place: Place::Iroh(Arc::new(place)),
            key: None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        check_length(text)?;
        if text.starts_with('{') {
            return EndpointAddress::from_json(text).map(Self::from);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::parse_rest(Scheme::Http, text);
        };
        let scheme = [Scheme::Http, Scheme::Iroh, Scheme::Memory]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.as_str()))
            .ok_or_else(|| AddressError::Scheme(scheme.into()))?;
        Self::parse_rest(scheme, rest)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        if let Some(key) = &self.key {
            write!(f, "{key}@")?;
        }
        match &self.place {
            Place::Http { host, port } => {
                write_host(f, host)?;
                write!(f, ":{port}")
            }
            Place::Iroh(place) => place.fmt(f),
            Place::Memory { name } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
