//! Which claims are shown where there are more than a peer takes.

use std::sync::Once;

use eidetica_auth::DeviceClaim;
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::limits::CLAIMS;

use crate::Backend;

/// Choosing is done for each request; that it does not work out is said once.
static WARNED: Once = Once::new();

/// The claims with those first that a peer has to see: of these keys, then one for each of these databases that may read
/// it. One is enough, since rights are of all proven keys together. Where all fit, nothing is looked up; else it costs one
/// question for each database, and some ten more for each claim that is chosen.
pub(crate) fn choose(
    backend: &dyn Backend,
    claims: Vec<DeviceClaim>,
    first: &[PublicKey],
    databases: &[Id],
) -> Vec<DeviceClaim> {
    if claims.len() <= CLAIMS {
        return claims;
    }
    // One whose rights cannot be read is synced with nobody.
    let may = |database: &Id, some: &[&DeviceClaim]| {
        let devices = some.first().map(|claim| claim.device());
        let covering = some.iter().filter(|claim| claim.covers(database));
        let keys: Vec<PublicKey> = devices
            .into_iter()
            .chain(covering.map(|claim| claim.key()))
            .collect();
        backend.can_read(database, &keys).unwrap_or(false)
    };
    let all: Vec<&DeviceClaim> = claims.iter().collect();
    let is_first = |claim: &&DeviceClaim| first.contains(&claim.key());
    let mut chosen: Vec<&DeviceClaim> = claims.iter().filter(is_first).take(CLAIMS).collect();
    let mut left_out = 0;
    for database in databases {
        if may(database, &chosen) || !may(database, &all) {
            continue;
        }
        if chosen.len() >= CLAIMS {
            left_out += 1;
            continue;
        }
        chosen.extend(one_of(&all, |some| may(database, some)));
    }
    if left_out > 0 {
        WARNED.call_once(|| {
            tracing::warn!(
                left_out,
                "databases need more keys than can be shown to a peer"
            );
        });
    }
    let is_other = |claim: &&&DeviceClaim| !chosen.contains(*claim);
    let others: Vec<&DeviceClaim> = all.iter().filter(is_other).copied().collect();
    let shown = chosen.into_iter().chain(others).take(CLAIMS);
    shown.cloned().collect()
}

/// One of those that may together, by halves.
fn one_of<'a>(
    all: &[&'a DeviceClaim],
    may: impl Fn(&[&'a DeviceClaim]) -> bool,
) -> Option<&'a DeviceClaim> {
    let mut some = all;
    while some.len() > 1 {
        let (one, other) = some.split_at(some.len() / 2);
        some = if may(one) { one } else { other };
    }
    some.first().copied()
}
