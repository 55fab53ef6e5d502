//! Proofs as plain data, and their bytes.

use crate::varint::{VarintError, read_varint, write_varint};
use crate::{DecodeError, Digest, Leaves, limits};

/// That certain leaves are where they are in the list with a root. Which leaves is not part of it: the
/// verifier brings them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The size of the list whose root is meant.
    pub leaves: Leaves,
    /// The hashes of the other nodes, from the left.
    pub digests: Vec<Digest>,
}

/// That the list with an old root is the beginning of the list with a new root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// The size of the old list.
    pub old: Leaves,
    /// The size of the new list.
    pub new: Leaves,
    /// The peaks of the old list and what makes the new root of them, from the left.
    pub digests: Vec<Digest>,
}

impl Proof {
    /// Appends the bytes: size and number of hashes as varints, the hashes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.leaves.0);
        write_digests(out, &self.digests);
    }

    /// Reads a proof of at most `most` hashes, [`limits::RANGE_DIGESTS`] or [`limits::PROOF_DIGESTS`], from
    /// the beginning of the bytes and says what follows it.
    ///
    /// # Errors
    /// [`DecodeError`] unless the bytes are exactly what encoding makes.
    pub fn read(bytes: &[u8], most: usize) -> Result<(Self, &[u8]), DecodeError> {
        let (leaves, bytes) = read_leaves(bytes)?;
        let (digests, bytes) = read_digests(bytes, most)?;
        Ok((Self { leaves, digests }, bytes))
    }

    /// Reads a proof that takes all of the bytes.
    ///
    /// # Errors
    /// Those of [`Proof::read`]; [`DecodeError::Trailing`].
    pub fn decode(bytes: &[u8], most: usize) -> Result<Self, DecodeError> {
        all(Self::read(bytes, most)?)
    }
}

impl Consistency {
    /// Appends the bytes: both sizes and the number of hashes as varints, the hashes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.old.0);
        write_varint(out, self.new.0);
        write_digests(out, &self.digests);
    }

    /// Reads a proof from the beginning of the bytes and says what follows it.
    ///
    /// # Errors
    /// [`DecodeError`] unless the bytes are exactly what encoding makes.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (old, bytes) = read_leaves(bytes)?;
        let (new, bytes) = read_leaves(bytes)?;
        let (digests, bytes) = read_digests(bytes, limits::RANGE_DIGESTS)?;
        Ok((Self { old, new, digests }, bytes))
    }

    /// Reads a proof that takes all of the bytes.
    ///
    /// # Errors
    /// Those of [`Consistency::read`]; [`DecodeError::Trailing`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        all(Self::read(bytes)?)
    }
}

fn all<T>((proof, rest): (T, &[u8])) -> Result<T, DecodeError> {
    if rest.is_empty() {
        Ok(proof)
    } else {
        Err(DecodeError::Trailing)
    }
}

fn write_digests(out: &mut Vec<u8>, digests: &[Digest]) {
    write_varint(out, digests.len() as u64);
    digests
        .iter()
        .for_each(|digest| out.extend_from_slice(digest.as_bytes()));
}

fn read_leaves(bytes: &[u8]) -> Result<(Leaves, &[u8]), DecodeError> {
    let (leaves, rest) = number(bytes)?;
    let leaves = Leaves(leaves);
    if leaves.is_possible() {
        Ok((leaves, rest))
    } else {
        Err(DecodeError::Number)
    }
}

fn read_digests(bytes: &[u8], most: usize) -> Result<(Vec<Digest>, &[u8]), DecodeError> {
    let (count, rest) = number(bytes)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= most);
    let count = count.ok_or(DecodeError::TooLarge { limit: most })?;
    let length = count.checked_mul(Digest::LEN);
    let (digests, rest) = length
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(DecodeError::Truncated)?;
    let (digests, _) = digests.as_chunks();
    Ok((digests.iter().copied().map(Digest::new).collect(), rest))
}

fn number(bytes: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    read_varint(bytes).map_err(|error| match error {
        VarintError::Truncated => DecodeError::Truncated,
        VarintError::Overlong => DecodeError::Number,
    })
}
