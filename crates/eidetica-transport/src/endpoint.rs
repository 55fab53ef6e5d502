//! Where an Iroh endpoint can be dialled: who it is, its relay, and sockets where it was seen.
//!
//! Two texts: `iroh://<endpoint>[?relay=<url>][&addr=<ip:port>]..`, where `iroh://<endpoint>@<relay>` is read too, and
//! the JSON that Iroh itself writes, `{"id":"..","addrs":[{"Relay":".."},{"Ip":".."}]}`. No look-up is done.

use core::net::{IpAddr, SocketAddr};
use std::{fmt, str::FromStr, sync::Arc};

use eidetica_entry::{Id, PublicKey};
use serde::{Deserialize, Serialize};

use crate::{
    AddressError,
    address::{host_and_port, write_host},
    limits,
};

/// An Iroh endpoint and ways to it. Its key is the device key: whoever is dialled proves it, or nothing is sent.
///
/// Without a relay and without sockets it is found by look-up alone, where the transport does one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAddress {
    endpoint: PublicKey,
    /// The endpoint as text.
    name: Arc<str>,
    relay: Option<Relay>,
    direct: Arc<[SocketAddr]>,
}

impl EndpointAddress {
    /// The endpoint with this key, known by nothing else.
    pub fn new(endpoint: PublicKey) -> Self {
        Self {
            endpoint,
            name: Id::new(endpoint.to_bytes()).to_string().into(),
            relay: None,
            direct: Arc::default(),
        }
    }

    /// The same, at home at this relay.
    #[must_use]
    pub fn with_relay(mut self, relay: Relay) -> Self {
        self.relay = Some(relay);
        self
    }

    /// The same, seen at these sockets, in this order, each once.
    ///
    /// # Errors
    /// A socket that nobody can be at, and more than [`DIRECT`](limits::DIRECT) of them.
    pub fn with_direct(
        mut self,
        direct: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Self, AddressError> {
        let mut sockets: Vec<SocketAddr> = Vec::new();
        for socket in direct {
            // A zone is a number of one machine's own.
            let zoned =
                matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.flowinfo() != 0);
            if zoned || socket.port() == 0 || !is_somewhere(socket.ip()) {
                return Err(AddressError::Direct(socket.to_string()));
            }
            if !sockets.contains(&socket) {
                sockets.push(socket);
            }
            if sockets.len() > limits::DIRECT {
                return Err(AddressError::TooManyDirect);
            }
        }
        self.direct = sockets.into();
        Ok(self)
    }

    /// The endpoint's key, which is its device key.
    pub fn endpoint(&self) -> &PublicKey {
        &self.endpoint
    }

    /// Its key as 64 hex digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The relay where it is at home.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// The sockets where it was seen.
    pub fn direct(&self) -> &[SocketAddr] {
        &self.direct
    }

    /// The form that Iroh writes.
    pub fn to_json(&self) -> String {
        let relay = self
            .relay
            .iter()
            .map(|relay| JsonPlace::Relay(relay.to_string()));
        let direct = self
            .direct
            .iter()
            .map(|socket| JsonPlace::Ip(socket.to_string()));
        let json = Json {
            id: self.name.to_string(),
            addrs: relay.chain(direct).collect(),
        };
        // Strings and lists always encode.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// Reads the form that Iroh writes.
    pub(crate) fn from_json(text: &str) -> Result<Self, AddressError> {
        let json: Json =
            serde_json::from_str(text).map_err(|error| AddressError::Json(error.to_string()))?;
        let mut address = Self::new(parse_endpoint(&json.id)?);
        let mut direct = Vec::new();
        for place in json.addrs {
            match place {
                JsonPlace::Relay(url) => address.set_relay(&url)?,
                JsonPlace::Ip(socket) => direct.push(parse_socket(&socket)?),
            }
        }
        address.with_direct(direct)
    }

    /// Reads what stands behind `iroh://`.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let (place, query) = match text.split_once('?') {
            None => (text, None),
            Some((place, query)) => (place, Some(query)),
        };
        let (endpoint, relay) = match place.split_once('@') {
            None => (place, None),
            Some((endpoint, relay)) => (endpoint, Some(relay)),
        };
        let mut address = Self::new(parse_endpoint(endpoint)?);
        relay.map_or(Ok(()), |relay| address.set_relay(relay))?;
        let mut direct = Vec::new();
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            match part.split_once('=') {
                Some(("relay", url)) => address.set_relay(url)?,
                Some(("addr", socket)) => direct.push(parse_socket(socket)?),
                _ => return Err(AddressError::Query(part.into())),
            }
        }
        address.with_direct(direct)
    }

    fn set_relay(&mut self, text: &str) -> Result<(), AddressError> {
        match self.relay.replace(text.parse()?) {
            None => Ok(()),
            Some(_) => Err(AddressError::Query("two relays".into())),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let mut mark = '?';
        if let Some(relay) = &self.relay {
            write!(f, "{mark}relay={relay}")?;
            mark = '&';
        }
        for socket in &*self.direct {
            write!(f, "{mark}addr={socket}")?;
            mark = '&';
        }
        Ok(())
    }
}

/// A relay server: `https://host[:port]`, or `http://` without encryption of its own, which costs no secrecy of what is
/// relayed. Text without a scheme is `https`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relay {
    tls: bool,
    host: Arc<str>,
    port: Option<u16>,
}

impl FromStr for Relay {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Relay(text.into());
        let (tls, place) = match text.split_once("://") {
            None => (true, text),
            Some((scheme, place)) if scheme.eq_ignore_ascii_case("https") => (true, place),
            Some((scheme, place)) if scheme.eq_ignore_ascii_case("http") => (false, place),
            Some(_) => return Err(bad()),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = host_and_port(place).map_err(|_| bad())?;
        // The default port is not written.
        let default = if tls { 443 } else { 80 };
        let port = port.filter(|port| *port != default);
        Ok(Self { tls, host, port })
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        write_host(f, &self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    id: String,
    addrs: Vec<JsonPlace>,
}

#[derive(Serialize, Deserialize)]
enum JsonPlace {
    Relay(String),
    Ip(String),
}

fn parse_endpoint(text: &str) -> Result<PublicKey, AddressError> {
    let id = text.to_ascii_lowercase().parse::<Id>();
    id.map(|id| PublicKey::new(id.to_bytes()))
        .map_err(|_| AddressError::Endpoint(text.into()))
}

fn parse_socket(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| AddressError::Direct(text.into()))
}

fn is_somewhere(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
