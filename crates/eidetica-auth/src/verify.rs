//! Signature verification by the rule of ZIP-215 (<https://zips.z.cash/zip-0215>), under which
//! single and batch verification agree by construction: with any other rule two replicas could
//! judge one entry differently. On top of it, keys of small order verify nothing.

use ed25519_zebra::batch;
use eidetica_entry::{PublicKey, Signature};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rayon::prelude::*;

use crate::{key::is_small_order, limits};

/// A message with the key and the signature that it is claimed to have.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The claimed signer.
    pub key: &'a PublicKey,
    /// The signed bytes, domain tag included.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a Signature,
}

/// Whether `signature` is `key`'s on `message` (about 50 us).
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    !is_small_order(key.as_bytes())
        && item(Signed {
            key,
            message,
            signature,
        })
        .verify_single()
        .is_ok()
}

/// Verifies many signatures at once and returns the positions of the bad ones, ascending; empty
/// when all are good. The verdict on each is that of [`verify`].
///
/// `seed` draws the random coefficients of the batch equation: it must be fresh and unknown to
/// whoever made the signatures. Batches of [`limits::BATCH`] run in parallel; about 20 us a
/// signature, half of that where one key signed most. A batch that fails is halved, down to
/// [`limits::BATCH_FLOOR`], so that a bad signature costs its own batch at most some seven times
/// the work and the others nothing.
pub fn verify_batch(signed: &[Signed<'_>], seed: [u8; 32]) -> Vec<usize> {
    let mut rng = StdRng::from_seed(seed);
    let chunks: Vec<_> = signed
        .chunks(limits::BATCH)
        .enumerate()
        .map(|(number, chunk)| {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            (number * limits::BATCH, chunk, seed)
        })
        .collect();
    match chunks.as_slice() {
        [(first, chunk, seed)] => bad_in_chunk(*first, chunk, *seed),
        _ => chunks
            .into_par_iter()
            .flat_map_iter(|(first, chunk, seed)| bad_in_chunk(first, chunk, seed))
            .collect(),
    }
}

fn item(signed: Signed<'_>) -> batch::Item {
    let key = ed25519_zebra::VerificationKeyBytes::from(*signed.key.as_bytes());
    let signature = ed25519_zebra::Signature::from_bytes(signed.signature.as_bytes());
    batch::Item::from((key, signature, signed.message))
}

fn bad_in_chunk(first: usize, chunk: &[Signed<'_>], seed: [u8; 32]) -> Vec<usize> {
    let (weak, items): (Vec<_>, Vec<_>) = chunk
        .iter()
        .enumerate()
        .map(|(offset, signed)| (first + offset, *signed))
        .partition(|(_, signed)| is_small_order(signed.key.as_bytes()));
    let items: Vec<_> = items
        .into_iter()
        .map(|(position, signed)| (position, item(signed)))
        .collect();
    let mut bad: Vec<_> = weak.into_iter().map(|(position, _)| position).collect();
    bad.extend(bad_items(&items, &mut StdRng::from_seed(seed)));
    bad.sort_unstable();
    bad
}

/// The positions of the bad items by plain ZIP-215.
pub(crate) fn bad_items(items: &[(usize, batch::Item)], rng: &mut StdRng) -> Vec<usize> {
    let mut bad = Vec::new();
    let mut open = vec![items];
    while let Some(items) = open.pop() {
        if items.len() > 1 && holds(items, rng) {
            continue;
        }
        if items.len() <= limits::BATCH_FLOOR {
            let single = items
                .iter()
                .filter(|(_, item)| item.clone().verify_single().is_err());
            bad.extend(single.map(|(position, _)| *position));
        } else {
            let (left, right) = items.split_at(items.len() / 2);
            open.extend([left, right]);
        }
    }
    bad
}

/// Whether all of `items` hold, by the batch equation.
pub(crate) fn holds(items: &[(usize, batch::Item)], rng: &mut StdRng) -> bool {
    let mut verifier = batch::Verifier::new();
    for (_, item) in items {
        verifier.queue(item.clone());
    }
    verifier.verify(rng).is_ok()
}

#[cfg(test)]
mod tests;
