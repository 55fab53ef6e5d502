//! What the command lines of both programs take, parsed into the types that the rest uses.

use std::{fmt, net::IpAddr, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, ValueEnum};
use eidetica_authdb::Kind;
use eidetica_entry::PublicKey;
use eidetica_transport::Address;

use crate::limits;

/// Serves a database that keeps growing, with proofs of everything it serves.
///
/// Makes a database with some operations, adds more at an interval, and answers clients that fetch operations
/// and proofs. Without options it listens for programs on this machine alone, who prove nothing; `--identity`
/// and `--allow` are for everything else.
#[derive(Debug, Parser)]
#[command(name = "server", version, max_term_width = 100)]
#[command(after_help = "Then, in another terminal: client")]
pub struct ServerOptions {
    /// Database type: keys with their latest value, or keys that are set once
    #[arg(long, value_enum, default_value_t = DatabaseType::Any, value_name = "TYPE")]
    pub db: DatabaseType,
    /// Port to listen on; 0 takes a free one
    #[arg(short, long, default_value_t = 8080)]
    pub port: u16,
    /// Address to listen on; one that other machines reach needs --identity
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub host: IpAddr,
    /// Operations that a new database begins with
    #[arg(short, long, default_value_t = 100, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=limits::INITIAL_OPS))]
    pub initial_ops: u64,
    /// Directory of the database, made if there is none, continued if there is one
    /// [default: a new one under the temporary directory]
    #[arg(short = 'd', long, value_name = "PATH")]
    pub storage_dir: Option<PathBuf>,
    /// Port of the metrics page, http://localhost:PORT/metrics; 0 takes a free one
    #[arg(short, long, default_value_t = 9090, value_name = "PORT")]
    pub metrics_port: u16,
    /// How often operations are added: a number and ms, s, m or h
    #[arg(short = 't', long, default_value = "100ms", value_name = "DURATION")]
    pub op_interval: Interval,
    /// How many are added each time; 0 adds none
    #[arg(short, long, default_value_t = 5, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=limits::OPS_PER_INTERVAL))]
    pub ops_per_interval: u64,
    /// How long operations that no longer count are kept for clients that lag behind or were away
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    pub prune_after: Interval,

    /// Who may talk to it
    #[command(flatten)]
    pub peers: PeerOptions,
    /// Listen over HTTP, encrypted; --identity includes it
    #[arg(long, help_heading = "Production")]
    pub http: bool,
    /// File of the key that signs targets, which is not that of --identity; made at first use
    #[arg(long, value_name = "FILE", help_heading = "Production")]
    pub signer: Option<PathBuf>,
    /// Targets that a peer and an address may ask for each second
    #[arg(
        long,
        default_value = "50",
        value_name = "COUNT",
        help_heading = "Production"
    )]
    pub target_rate: NonZeroU32,
    /// Operations that a peer and an address may fetch each second
    #[arg(
        long,
        default_value = "2000000",
        value_name = "COUNT",
        help_heading = "Production"
    )]
    pub operation_rate: NonZeroU32,
    /// Connections at once
    #[arg(
        long,
        default_value_t = 256,
        value_name = "COUNT",
        help_heading = "Production"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Connections at once from one address
    #[arg(
        long,
        default_value_t = 32,
        value_name = "COUNT",
        help_heading = "Production"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: u32,
}

/// Keeps a copy of a server's database, every operation of it proven.
///
/// Again and again: asks for the newest target (a root and a range of operations), fetches what is missing from
/// one server or several, checks everything against the root, and appends it. It can be stopped at any time and
/// goes on where it was.
#[derive(Debug, Parser)]
#[command(name = "client", version, max_term_width = 100)]
#[command(after_help = "A server has to run: in another terminal, without options, it is: server")]
pub struct ClientOptions {
    /// Database type, the same as the server's
    #[arg(long, value_enum, default_value_t = DatabaseType::Any, value_name = "TYPE")]
    pub db: DatabaseType,
    /// Server to fetch from, host:port; repeat it for several. http://host:port dials over HTTP, encrypted
    #[arg(short, long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub server: Vec<ServerAddress>,
    /// Operations in one request
    #[arg(short, long, default_value_t = 50, value_name = "SIZE")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_SIZE))]
    pub batch_size: u32,
    /// Requests that wait for an answer at once, over all servers
    #[arg(short = 'r', long, default_value_t = 16, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::OUTSTANDING_REQUESTS))]
    pub max_outstanding_requests: u32,
    /// Directory of the copy, made if there is none, continued if there is one
    /// [default: a new one under the temporary directory]
    #[arg(short = 'd', long, value_name = "PATH")]
    pub storage_dir: Option<PathBuf>,
    /// Port of the metrics page, http://localhost:PORT/metrics; 0 takes a free one
    #[arg(short, long, default_value_t = 9091, value_name = "PORT")]
    pub metrics_port: u16,
    /// How often the servers are asked for a newer target during a sync: a number and ms, s, m or h
    #[arg(short = 't', long, default_value = "1s", value_name = "DURATION")]
    #[arg(value_parser = target_interval)]
    pub target_update_interval: Interval,
    /// How long to wait between one sync and the next
    #[arg(short = 'i', long, default_value = "10s", value_name = "DURATION")]
    pub sync_interval: Interval,

    /// Begin the copy anew when it is so old that the servers have pruned what would show that their history continues
    /// it. The signer vouches for the new beginning, or without --trusted-signer whoever is connected
    #[arg(long)]
    pub start_over: bool,

    /// Whom it talks to
    #[command(flatten)]
    pub peers: PeerOptions,
    /// Take targets only if this key has signed them; it is not the server's own
    #[arg(long, value_name = "KEY", help_heading = "Production")]
    pub trusted_signer: Option<Key>,
}

/// Connections with proven keys on both ends.
#[derive(Debug, Default, Args)]
pub struct PeerOptions {
    /// File of this side's key, made at first use; connections are encrypted, and both ends prove their keys
    #[arg(long, value_name = "FILE", help_heading = "Production")]
    pub identity: Option<PathBuf>,
    /// Key of a peer to talk to, ed25519:<64 hex digits>; repeat it for several. Needs --identity
    #[arg(
        long,
        value_name = "KEY",
        requires = "identity",
        help_heading = "Production"
    )]
    pub allow: Vec<Key>,
}

/// `--db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatabaseType {
    /// Keys have their latest value.
    Any,
    /// Keys are set once.
    Immutable,
}

impl DatabaseType {
    /// The name that client and server have to agree on.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Immutable => "immutable",
        }
    }

    /// The same for the library.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Any => Kind::Any,
            Self::Immutable => Kind::Immutable,
        }
    }
}

/// A duration above zero. Shown as [`Duration`] shows itself: `2s`, `100ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub Duration);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Another form.
    #[error("a duration is a whole number and one of ms, s, m, h: 500ms, 2s, 5m, 1h")]
    Form,
    /// Nothing.
    #[error("the duration must be longer than nothing")]
    Zero,
    /// More than [`limits::INTERVAL`].
    #[error("the duration is longer than a year")]
    TooLong,
    /// More than [`limits::TARGET_INTERVAL`].
    #[error("targets are asked for at least every 24h")]
    TooRare,
}

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = text.strip_suffix(unit).unwrap_or_default();
        let each_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(IntervalError::Form),
        };
        if digits.is_empty() {
            return Err(IntervalError::Form);
        }
        // Only too many digits are left to fail.
        let number: u64 = digits.parse().map_err(|_| IntervalError::TooLong)?;
        let ms = number.checked_mul(each_ms).ok_or(IntervalError::TooLong)?;
        match Duration::from_millis(ms) {
            Duration::ZERO => Err(IntervalError::Zero),
            long if long > limits::INTERVAL => Err(IntervalError::TooLong),
            duration => Ok(Self(duration)),
        }
    }
}

/// An interval between targets.
fn target_interval(text: &str) -> Result<Interval, IntervalError> {
    let interval: Interval = text.parse()?;
    match interval.0 > limits::TARGET_INTERVAL {
        true => Err(IntervalError::TooRare),
        false => Ok(interval),
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// `host:port`: plain, unless this side has an identity.
    Plain {
        /// A name or an address, IPv6 in brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `http://host:port`.
    Http(Address),
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No host or no port.
    #[error("a server is host:port or http://host:port, like 127.0.0.1:8080")]
    Form,
    /// A bad host or port.
    #[error(transparent)]
    Http(#[from] eidetica_transport::AddressError),
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // The rules for hosts and ports are the same.
        let (_, after) = text.rsplit_once(':').ok_or(AddressError::Form)?;
        let port: u16 = after.parse().map_err(|_| AddressError::Form)?;
        if text.starts_with("http://") {
            return Ok(Self::Http(Address::http(text)?));
        }
        if text.contains("://") {
            return Err(AddressError::Form);
        }
        let address = Address::http(text)?;
        let host = address.to_string();
        let host = host.trim_start_matches("http://");
        let (host, _) = host.rsplit_once(':').ok_or(AddressError::Form)?;
        Ok(Self::Plain {
            host: host.to_owned(),
            port,
        })
    }
}

impl ServerAddress {
    /// The same place over HTTP.
    ///
    /// # Errors
    /// Never for one that was parsed.
    pub fn over_http(&self) -> Result<Address, eidetica_transport::AddressError> {
        match self {
            Self::Plain { host, port } => Address::http(&format!("{host}:{port}")),
            Self::Http(address) => Ok(address.clone()),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain { host, port } => write!(f, "{host}:{port}"),
            Self::Http(address) => address.fmt(f),
        }
    }
}

/// A public key that is fit for use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub PublicKey);

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key: PublicKey = text
            .parse()
            .map_err(|_| "a key is ed25519: and 64 lower-case hex digits".to_owned())?;
        eidetica_auth::check_public_key(&key).map_err(|error| error.to_string())?;
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_lines_are_sound() {
        ServerOptions::command().debug_assert();
        ClientOptions::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("1ms", 1),
            ("100ms", 100),
            ("2s", 2000),
            ("3m", 180_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Interval(Duration::from_millis(ms))),
                "{text}"
            );
        }
        for text in [
            "", "5", "s", "5 s", "5d", "1.5s", "-1s", "5S", "5sec", "ms5", "5ss", "+5s",
        ] {
            assert_eq!(text.parse::<Interval>(), Err(IntervalError::Form), "{text}");
        }
        assert_eq!("0s".parse::<Interval>(), Err(IntervalError::Zero));
        for text in ["9000h", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(
                text.parse::<Interval>(),
                Err(IntervalError::TooLong),
                "{text}"
            );
        }
        assert_eq!(Interval(Duration::from_secs(2)).to_string(), "2s");
    }

    #[test]
    fn servers() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "example.com:1",
            "http://example.com:8080",
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "example.com",
            "127.0.0.1:",
            "127.0.0.1:0",
            "1:99999",
            "http://",
            "tcp://a:1",
            "::1:80",
            "a b:1",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }
}
