//! How an endpoint is reached and finds others.

use std::{net::SocketAddr, str::FromStr};

use eidetica_transport::{AddressError, Relay};

use crate::limits::{self, IrohLimits};

/// Which relays carry what cannot go directly. A relay sees who talks with whom and how much, never what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Relays {
    /// Those that the makers of Iroh run for everybody.
    #[default]
    Default,
    /// Those that they test on.
    Staging,
    /// These, at most [`RELAYS`](limits::RELAYS).
    Custom(Vec<Relay>),
    /// None: peers reach each other directly or not at all.
    Disabled,
}

impl Relays {
    /// Whether there are any.
    pub fn are_used(&self) -> bool {
        match self {
            Self::Custom(relays) => !relays.is_empty(),
            other => *other != Self::Disabled,
        }
    }
}

/// `default`, `staging`, `disabled`, or URLs of relays, separated by commas.
impl FromStr for Relays {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.trim() {
            "default" => Ok(Self::Default),
            "staging" => Ok(Self::Staging),
            "disabled" => Ok(Self::Disabled),
            urls => {
                let relays: Vec<Relay> = urls
                    .split(',')
                    .map(|url| url.trim().parse())
                    .collect::<Result<_, _>>()?;
                if relays.len() > limits::RELAYS {
                    return Err(AddressError::Relay(format!("{} relays", relays.len())));
                }
                Ok(Self::Custom(relays))
            }
        }
    }
}

/// How an endpoint is reached and finds others. [`Default`] is for everyday use, [`local`](Self::local) for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IrohConfig {
    pub(crate) relays: Relays,
    pub(crate) bind: Vec<SocketAddr>,
    pub(crate) lookup: bool,
    pub(crate) lan: bool,
    pub(crate) limits: IrohLimits,
}

/// Public relays, look-up of endpoints by name at the servers of Iroh's makers, and on the local network; any free port on
/// all interfaces.
///
/// The look-up publishes the endpoint's key, which is the device key, with its relay; its IP addresses are told to peers
/// that connect and on the local network only.
impl Default for IrohConfig {
    fn default() -> Self {
        Self {
            relays: Relays::Default,
            bind: Vec::new(),
            lookup: true,
            lan: true,
            limits: IrohLimits::default(),
        }
    }
}

impl IrohConfig {
    /// For tests: on loopback alone, with no relay and no look-up of any kind. No packet leaves the machine.
    pub fn local() -> Self {
        Self {
            relays: Relays::Disabled,
            bind: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            lookup: false,
            lan: false,
            limits: IrohLimits::default(),
        }
    }

    /// With these relays. Without the public ones there is no look-up at their makers' servers either, unless
    /// [`with_lookup`](Self::with_lookup) asks for it afterwards.
    #[must_use]
    pub fn with_relays(mut self, relays: Relays) -> Self {
        self.lookup &= matches!(relays, Relays::Default | Relays::Staging);
        self.relays = relays;
        self
    }

    /// Listens here, at most one place per address family, instead of on all interfaces; port 0 is any free one.
    #[must_use]
    pub fn with_bind(mut self, bind: Vec<SocketAddr>) -> Self {
        self.bind = bind;
        self
    }

    /// Whether endpoints are published at and looked up from the DNS servers of Iroh's makers.
    #[must_use]
    pub fn with_lookup(mut self, lookup: bool) -> Self {
        self.lookup = lookup;
        self
    }

    /// Whether endpoints are announced to and looked up from the local network, by multicast DNS.
    #[must_use]
    pub fn with_lan(mut self, lan: bool) -> Self {
        self.lan = lan;
        self
    }

    /// With the limits of an operator.
    #[must_use]
    pub fn with_limits(mut self, limits: IrohLimits) -> Self {
        self.limits = limits;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_have_a_text() {
        for (text, relays) in [
            ("default", Relays::Default),
            (" staging ", Relays::Staging),
            ("disabled", Relays::Disabled),
        ] {
            assert_eq!(text.parse(), Ok(relays));
        }
        let two: Relays = "a.example.com, http://127.0.0.1:3340".parse().unwrap();
        assert!(matches!(&two, Relays::Custom(relays) if relays.len() == 2) && two.are_used());
        assert!("".parse::<Relays>().is_err() && "a,,b".parse::<Relays>().is_err());
        let most = vec!["r"; limits::RELAYS].join(",");
        assert!(most.parse::<Relays>().is_ok() && format!("{most},r").parse::<Relays>().is_err());
        assert!(!Relays::Custom(Vec::new()).are_used() && !Relays::Disabled.are_used());
    }

    #[test]
    fn other_relays_end_the_look_up_at_public_servers() {
        let config = IrohConfig::default();
        assert!(config.lookup && config.lan && config.relays == Relays::Default);
        assert!(!config.clone().with_relays(Relays::Disabled).lookup);
        assert!(config.with_relays(Relays::Staging).lookup);
        assert!(!IrohConfig::local().with_relays(Relays::Default).lookup);
    }
}
