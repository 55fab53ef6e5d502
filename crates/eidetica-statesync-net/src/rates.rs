//! Token buckets for each peer and each address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use eidetica_entry::PublicKey;
use eidetica_statesync::limits::BATCH;
use eidetica_statesync::message::Request;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::{ServerLimits, limits};

/// Who asks. Both parts are counted, so that neither one key at many addresses nor one address with many
/// keys gets more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: Option<IpAddr>,
    pub(crate) key: Option<PublicKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Address(IpAddr),
    Key(PublicKey),
}

impl Peer {
    fn parts(&self) -> impl Iterator<Item = Part> {
        let address = self.address.map(|address| Part::Address(network(address)));
        address.into_iter().chain(self.key.map(Part::Key))
    }
}

/// What one owner has at his disposal: an address, or an IPv6 network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// What a request takes from a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// One of the bucket of targets: a target, a proof of consistency, or nonsense.
    Target,
    /// So many operations.
    Operations(NonZeroU32),
}

impl Cost {
    pub(crate) fn of(request: &[u8]) -> Self {
        match Request::decode(request) {
            Ok((_, Request::Operations { most, .. })) => {
                let most = u32::try_from(most.min(BATCH as u64)).unwrap_or(u32::MAX);
                Self::Operations(NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN))
            }
            _ => Self::Target,
        }
    }
}

/// The buckets of one server. Each holds what is allowed in two seconds.
pub(crate) struct Rates {
    /// What a full bucket of operations holds: more is never asked of it, or a long request would never be
    /// answered.
    most: NonZeroU32,
    targets: DefaultKeyedRateLimiter<Part>,
    operations: DefaultKeyedRateLimiter<Part>,
    clock: DefaultClock,
}

impl Rates {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        let quota =
            |rate: NonZeroU32| Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST));
        Self {
            most: limits.operations_per_second.saturating_mul(BURST),
            targets: DefaultKeyedRateLimiter::keyed(quota(limits.targets_per_second)),
            operations: DefaultKeyedRateLimiter::keyed(quota(limits.operations_per_second)),
            clock: DefaultClock::default(),
        }
    }

    /// Takes what a request costs, or says when there is enough again.
    pub(crate) fn take(&self, peer: &Peer, cost: Cost) -> Result<(), Duration> {
        let (buckets, cost) = match cost {
            Cost::Target => (&self.targets, NonZeroU32::MIN),
            Cost::Operations(cost) => (&self.operations, cost.min(self.most)),
        };
        if buckets.len() > limits::RATES {
            buckets.retain_recent();
        }
        peer.parts()
            .try_for_each(|part| self.take_from(buckets, part, cost))
    }

    fn take_from(
        &self,
        buckets: &DefaultKeyedRateLimiter<Part>,
        part: Part,
        cost: NonZeroU32,
    ) -> Result<(), Duration> {
        match buckets.check_key_n(&part, cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(early)) => Err(early.wait_time_from(self.clock.now())),
            // More than the bucket ever holds.
            Err(_) => Err(Duration::MAX),
        }
    }
}

/// Seconds of a rate that may be used at once.
const BURST: NonZeroU32 = const { NonZeroU32::new(2).unwrap() };

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(targets: u32, operations: u32) -> Rates {
        Rates::new(&ServerLimits {
            targets_per_second: NonZeroU32::new(targets).unwrap(),
            operations_per_second: NonZeroU32::new(operations).unwrap(),
            ..ServerLimits::default()
        })
    }

    fn peer(address: &str, key: Option<u8>) -> Peer {
        Peer {
            address: Some(address.parse().unwrap()),
            key: key.map(|byte| PublicKey::new([byte; 32])),
        }
    }

    #[test]
    fn a_bucket_is_emptied_and_says_when_it_is_not() {
        let rates = rates(1, 1000);
        let asker = peer("10.0.0.1", None);
        for _ in 0..2 {
            assert_eq!(rates.take(&asker, Cost::Target), Ok(()));
        }
        let wait = rates.take(&asker, Cost::Target).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(
            rates.take(&asker, Cost::Operations(NonZeroU32::new(1500).unwrap())),
            Ok(()),
            "another bucket"
        );
        assert!(
            rates
                .take(&asker, Cost::Operations(NonZeroU32::new(1500).unwrap()))
                .is_err()
        );
        assert_eq!(rates.take(&peer("10.0.0.2", None), Cost::Target), Ok(()));
    }

    #[test]
    fn keys_and_networks_are_counted_too() {
        let rates = rates(1, 1000);
        for (address, key) in [("10.0.0.1", 7), ("10.0.0.2", 7)] {
            assert_eq!(rates.take(&peer(address, Some(key)), Cost::Target), Ok(()));
        }
        assert!(
            rates
                .take(&peer("10.0.0.3", Some(7)), Cost::Target)
                .is_err()
        );
        for host in ["2001:db8::1", "2001:db8::2"] {
            assert_eq!(rates.take(&peer(host, None), Cost::Target), Ok(()));
        }
        assert!(
            rates
                .take(&peer("2001:db8::3", None), Cost::Target)
                .is_err()
        );
        assert_eq!(
            rates.take(&peer("2001:db8:0:1::3", None), Cost::Target),
            Ok(())
        );
    }
}
