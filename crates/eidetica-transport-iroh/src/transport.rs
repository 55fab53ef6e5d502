//! The transport as the node sees it: one endpoint, bound when it is first needed.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use async_trait::async_trait;
use eidetica_transport::{
    Address, Budget, Channel, EndpointAddress, Listener, Scheme, Transport, TransportError,
    limits as transport_limits,
};
use iroh::{
    Endpoint, EndpointAddr, RelayMode, RelayUrl, SecretKey, TransportAddr,
    address_lookup::{AddrFilter, DnsAddressLookup, PkarrPublisher, PkarrResolver},
    endpoint::{ConnectOptions, QuicTransportConfig, VarInt, presets},
};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    binding,
    client::{IrohChannel, Link},
    config::{IrohConfig, Relays},
    error::{late, of_connect},
    limits::{self, IrohLimits},
    server::{Hall, IrohListener, Server},
};

/// What both ends say that they speak. Another version of what is on the streams has another name.
pub const ALPN: &[u8] = b"eidetica/1";

/// The service that multicast DNS announces.
const LAN_SERVICE: &str = "eidetica";

/// Dials and listens from peer to peer. Cheap to clone; clones share one endpoint, which is bound when something is first
/// dialled or listened for.
///
/// `listen` ignores what it is given: the place follows from the [`IrohConfig`].
#[derive(Clone)]
pub struct IrohTransport {
    shared: Arc<Shared>,
}

struct Shared {
    secret: SecretKey,
    config: IrohConfig,
    budget: Arc<Budget>,
    home: OnceCell<Home>,
}

struct Home {
    endpoint: Endpoint,
    hall: Arc<Hall>,
}

impl IrohTransport {
    /// The transport of the device with this secret key, which is the endpoint's. Does nothing yet.
    pub fn new(device: &[u8; 32], config: IrohConfig) -> Self {
        let budget = Budget::new(config.limits.reassembly_bytes);
        Self {
            shared: Arc::new(Shared {
                secret: SecretKey::from_bytes(device),
                config,
                budget,
                home: OnceCell::new(),
            }),
        }
    }

    async fn home(&self) -> Result<&Home, TransportError> {
        self.shared.home.get_or_try_init(|| self.bind()).await
    }

    async fn bind(&self) -> Result<Home, TransportError> {
        let Shared { secret, config, .. } = &*self.shared;
        let refused = |detail: String| TransportError::Bind {
            bind: config
                .bind
                .first()
                .map(SocketAddr::to_string)
                .unwrap_or_default(),
            detail,
        };
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(secret.clone())
            .alpns(vec![ALPN.to_vec()])
            .transport_config(accepting(&config.limits))
            .relay_mode(relay_mode(&config.relays)?);
        if !config.bind.is_empty() {
            builder = builder.clear_ip_transports();
        }
        for socket in &config.bind {
            builder = builder
                .bind_addr(*socket)
                .map_err(|error| refused(error.to_string()))?;
        }
        if config.lookup {
            // What is published for everybody is the relay alone, never an IP address.
            builder = builder
                .address_lookup(PkarrPublisher::n0_dns().addr_filter(AddrFilter::relay_only()))
                .address_lookup(PkarrResolver::n0_dns())
                .address_lookup(DnsAddressLookup::n0_dns());
        }
        let endpoint = builder
            .bind()
            .await
            .map_err(|error| refused(error.to_string()))?;
        if config.lan {
            announce(&endpoint);
        }
        let hall = Arc::<Hall>::default();
        tokio::spawn(Arc::clone(&hall).receive(endpoint.clone()));
        Ok(Home { endpoint, hall })
    }
}

/// Announces the endpoint's key and sockets on the local network, and looks others up there. Without multicast the rest
/// goes on.
fn announce(endpoint: &Endpoint) {
    let lan = MdnsAddressLookup::builder()
        .service_name(LAN_SERVICE)
        .addr_filter(AddrFilter::ip_only())
        .build(endpoint.id());
    match (lan, endpoint.address_lookup()) {
        (Ok(lan), Ok(services)) => services.add(lan),
        (Err(error), _) => tracing::info!(%error, "no look-up on the local network"),
        (_, Err(error)) => tracing::info!(%error, "no look-up on the local network"),
    }
}

fn relay_mode(relays: &Relays) -> Result<RelayMode, TransportError> {
    Ok(match relays {
        Relays::Default => RelayMode::Default,
        Relays::Staging => RelayMode::Staging,
        Relays::Disabled => RelayMode::Disabled,
        Relays::Custom(relays) => {
            let urls = relays
                .iter()
                .map(relay_url)
                .collect::<Result<Vec<_>, _>>()?;
            RelayMode::custom(urls)
        }
    })
}

fn relay_url(relay: &eidetica_transport::Relay) -> Result<RelayUrl, TransportError> {
    let text = relay.to_string();
    text.parse::<RelayUrl>().map_err(|_| TransportError::Bind {
        bind: text,
        detail: "not the URL of a relay".to_owned(),
    })
}

/// For connections that come in: little, until the peer is proven.
fn accepting(limits: &IrohLimits) -> QuicTransportConfig {
    common(limits)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::UNPROVEN_REQUESTS))
        .receive_window(VarInt::from_u32(limits::UNPROVEN_WINDOW))
        .build()
}

/// For connections that go out: the peer opens no stream.
fn dialling(limits: &IrohLimits) -> QuicTransportConfig {
    common(limits)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(limits::WINDOW))
        .build()
}

fn common(limits: &IrohLimits) -> iroh::endpoint::QuicTransportConfigBuilder {
    QuicTransportConfig::builder()
        // What no timeout can be made of is so long that none is needed.
        .max_idle_timeout(limits.idle.try_into().ok())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW))
        .send_window(limits::SEND_WINDOW)
}

#[async_trait]
impl Transport for IrohTransport {
    fn scheme(&self) -> Scheme {
        Scheme::Iroh
    }

    async fn connect(&self, address: &Address) -> Result<Box<dyn Channel>, TransportError> {
        let place = address
            .endpoint()
            .ok_or_else(|| TransportError::Unsupported {
                address: address.clone(),
            })?;
        let target = target(place, address)?;
        let limits = self.shared.config.limits;
        let endpoint = &self.home().await?.endpoint;
        let options = ConnectOptions::new().with_transport_config(dialling(&limits));
        let connecting = async {
            let connecting = endpoint.connect_with_opts(target, ALPN, options).await?;
            Ok(connecting.await?)
        };
        let connection = timeout(limits.dial, connecting)
            .await
            .map_err(|_| late("connection", limits.dial))?
            .map_err(|error| of_connect(&error, address, limits.dial))?;
        let binding = binding::of(&connection, &endpoint.id()).ok_or(TransportError::Protocol {
            detail: "no key material",
        })?;
        Ok(Box::new(IrohChannel {
            link: Arc::new(Link(connection)),
            binding,
            limits,
            budget: Arc::clone(&self.shared.budget),
            closed: AtomicBool::new(false),
        }))
    }

    async fn listen(&self, bind: &str) -> Result<Box<dyn Listener>, TransportError> {
        let Home { endpoint, hall } = self.home().await?;
        let config = &self.shared.config;
        let (server, accepted) = Server::new(config.limits, endpoint.id());
        hall.open(&server, bind)?;
        let listener = IrohListener {
            endpoint: endpoint.clone(),
            hall: Arc::clone(hall),
            server,
            accepted,
        };
        if config.relays.are_used()
            && timeout(config.limits.online, endpoint.online())
                .await
                .is_err()
        {
            tracing::warn!("no relay answers: peers elsewhere may not find this one yet");
        }
        Ok(Box::new(listener))
    }

    async fn close(&self) {
        if let Some(home) = self.shared.home.get() {
            home.endpoint.close().await;
        }
    }
}

/// An address as Iroh takes it.
fn target(place: &EndpointAddress, address: &Address) -> Result<EndpointAddr, TransportError> {
    let unreachable = |detail: &str| TransportError::Unreachable {
        address: address.clone(),
        detail: detail.to_owned(),
    };
    let id = iroh::EndpointId::from_bytes(place.endpoint().as_bytes())
        .map_err(|_| unreachable("its key is none"))?;
    let relay = place.relay().map(relay_url).transpose()?;
    let relay = relay.into_iter().map(TransportAddr::Relay);
    let direct = place.direct().iter().copied().map(TransportAddr::Ip);
    Ok(EndpointAddr::from_parts(id, relay.chain(direct)))
}

/// An address as others write it: as many sockets as an address may have.
pub(crate) fn address_of(addr: &EndpointAddr) -> Address {
    let key = eidetica_entry::PublicKey::new(*addr.id.as_bytes());
    let mut place = EndpointAddress::new(key);
    if let Some(Ok(relay)) = addr.relay_urls().next().map(|url| url.to_string().parse()) {
        place = place.with_relay(relay);
    }
    let sockets = addr.ip_addrs().copied().filter(|socket| {
        // One that cannot be written is of no use to others.
        EndpointAddress::new(key).with_direct([*socket]).is_ok()
    });
    let bare = place.clone();
    place
        .with_direct(sockets.take(transport_limits::DIRECT))
        .unwrap_or(bare)
        .into()
}

impl std::fmt::Debug for IrohTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IrohTransport")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}
