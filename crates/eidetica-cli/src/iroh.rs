//! How a command reaches peers over Iroh.

use std::str::FromStr;

use eidetica::sync::{IrohConfig, Relays, Scheme, Sync};

use crate::error::Result;

/// Arguments of commands that reach peers from peer to peer.
#[derive(clap::Args)]
pub(crate) struct IrohArgs {
    /// Relays for what cannot go directly: `default`, `staging`, `disabled`, or URLs with commas between them; `local`
    /// stays on this machine, `off` is without Iroh
    #[arg(long, value_name = "RELAYS", env = "EIDETICA_IROH")]
    iroh: Option<Choice>,
    /// Neither announce this device on the local network nor look for others there
    #[arg(long, env = "EIDETICA_NO_LAN")]
    no_lan: bool,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Off,
    Local,
    Relays(Relays),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "local" => Ok(Self::Local),
            text => {
                text.parse()
                    .map(Self::Relays)
                    .map_err(|error: eidetica::sync::AddressError| {
                        format!("{error} (or one of default, staging, disabled, local, off)")
                    })
            }
        }
    }
}

impl IrohArgs {
    /// The configuration, if Iroh is to be used; `unasked` says whether it is where nothing was chosen.
    pub(crate) fn config(&self, unasked: bool) -> Option<IrohConfig> {
        let lan = !self.no_lan;
        match &self.iroh {
            None if unasked => Some(IrohConfig::default().with_lan(lan)),
            None | Some(Choice::Off) => None,
            Some(Choice::Local) => Some(IrohConfig::local()),
            Some(Choice::Relays(relays)) => Some(
                IrohConfig::default()
                    .with_relays(relays.clone())
                    .with_lan(lan),
            ),
        }
    }
}

/// Whether a peer is known by an address of Iroh: whoever keeps connections needs it then.
pub(crate) fn is_needed(sync: &Sync) -> Result<bool> {
    let peers = sync.list_peers()?;
    let mut addresses = peers.iter().flat_map(|peer| &peer.addresses);
    Ok(addresses.any(|address| address.scheme() == Scheme::Iroh))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(iroh: Option<&str>, no_lan: bool) -> IrohArgs {
        let iroh = iroh.map(|text| text.parse().unwrap());
        IrohArgs { iroh, no_lan }
    }

    #[test]
    fn nothing_is_announced_where_it_is_not_wanted() {
        assert_eq!(chosen(None, false).config(false), None);
        assert_eq!(chosen(Some("off"), false).config(true), None);
        let all = chosen(None, false).config(true);
        assert_eq!(all, Some(IrohConfig::default()));
        let quiet = chosen(None, true).config(true);
        assert_eq!(quiet, Some(IrohConfig::default().with_lan(false)));
        let local = chosen(Some("local"), false).config(true);
        assert_eq!(local, Some(IrohConfig::local()));
        let own = chosen(Some("https://relay.example.com"), true).config(false);
        let relays = "https://relay.example.com".parse().unwrap();
        let expected = IrohConfig::default().with_relays(relays).with_lan(false);
        assert_eq!(own, Some(expected));
        assert!("a b".parse::<Choice>().is_err());
    }
}
