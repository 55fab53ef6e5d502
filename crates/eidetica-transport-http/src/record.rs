//! Chunks: what one Noise message of a request or response says, and its nonce. No I/O.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use eidetica_transport::TransportError;

use crate::{crypto::TAG, limits::CHUNK_DATA, noise::Keys};

/// The bytes before a chunk: its length, in little-endian order.
pub(crate) const LENGTH: usize = 2;

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A part of a frame that goes on in the next chunk.
    More = 0,
    /// The last or only part of a frame.
    Last = 1,
    /// The end of the stream.
    End = 2,
    /// Nothing: the sender is there.
    Keep = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::More, Self::Last, Self::End, Self::Keep]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The nonces of one direction of one request: the request's number, then the chunk's. The direction is in the key.
struct Nonces {
    request: u32,
    chunk: u32,
}

impl Nonces {
    fn next(&mut self) -> Result<u64, TransportError> {
        let nonce = u64::from(self.request) << 32 | u64::from(self.chunk);
        // 2^32 chunks are 256 TiB in one stream.
        let error = TransportError::Protocol {
            detail: "a stream of too many chunks",
        };
        self.chunk = self.chunk.checked_add(1).ok_or(error)?;
        Ok(nonce)
    }
}

/// Makes the chunks of one stream.
pub(crate) struct Sealer {
    keys: Arc<Keys>,
    nonces: Nonces,
    plain: Vec<u8>,
}

impl Sealer {
    pub(crate) fn new(keys: Arc<Keys>, request: u32) -> Self {
        Self {
            keys,
            nonces: Nonces { request, chunk: 0 },
            plain: Vec::new(),
        }
    }

    /// Appends a chunk with as much of `data` as one holds to `out`, and takes that from `data`; says whether the
    /// frame is finished.
    pub(crate) fn seal_frame(
        &mut self,
        data: &mut Bytes,
        out: &mut BytesMut,
    ) -> Result<bool, TransportError> {
        let part = data.split_to(data.len().min(CHUNK_DATA));
        let kind = if data.is_empty() {
            Kind::Last
        } else {
            Kind::More
        };
        self.seal(kind, &part, out)?;
        Ok(kind == Kind::Last)
    }

    /// Appends a chunk without data.
    pub(crate) fn seal_mark(
        &mut self,
        kind: Kind,
        out: &mut BytesMut,
    ) -> Result<(), TransportError> {
        self.seal(kind, &[], out)
    }

    fn seal(&mut self, kind: Kind, data: &[u8], out: &mut BytesMut) -> Result<(), TransportError> {
        self.plain.clear();
        self.plain.push(kind as u8);
        self.plain.extend_from_slice(data);
        let sealed = self.plain.len() + TAG;
        out.extend_from_slice(&(sealed as u16).to_le_bytes());
        let start = out.len();
        out.resize(start + sealed, 0);
        let (_, target) = out.split_at_mut(start);
        self.keys.seal(self.nonces.next()?, &self.plain, target)
    }
}

/// Reads the chunks of one stream.
pub(crate) struct Opener {
    keys: Arc<Keys>,
    nonces: Nonces,
}

impl Opener {
    pub(crate) fn new(keys: Arc<Keys>, request: u32) -> Self {
        Self {
            keys,
            nonces: Nonces { request, chunk: 0 },
        }
    }

    /// Decrypts the next chunk, without its length.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<(Kind, Bytes), TransportError> {
        let len = sealed
            .len()
            .checked_sub(TAG)
            .ok_or(TransportError::Tampered)?;
        let mut plain = vec![0; len];
        self.keys.open(self.nonces.next()?, sealed, &mut plain)?;
        let mut plain = Bytes::from(plain);
        let kind = plain.first().copied().and_then(Kind::of);
        match kind {
            None => Err(TransportError::Protocol {
                detail: "a chunk of unknown kind",
            }),
            Some(Kind::End | Kind::Keep) if len > 1 => Err(TransportError::Protocol {
                detail: "a mark with data",
            }),
            Some(kind) => {
                plain.advance(1);
                Ok((kind, plain))
            }
        }
    }
}

/// Takes the next whole chunk from what has arrived, without its length.
pub(crate) fn split_chunk(arrived: &mut BytesMut) -> Option<BytesMut> {
    let length: [u8; LENGTH] = *arrived.first_chunk()?;
    let length = usize::from(u16::from_le_bytes(length));
    if arrived.len() < LENGTH + length {
        return None;
    }
    arrived.advance(LENGTH);
    Some(arrived.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{self, Initiator};

    fn pair() -> (Arc<Keys>, Arc<Keys>) {
        let (client, first) = Initiator::start().unwrap();
        let (second, server) = noise::respond(&first, &[9; 16]).unwrap();
        (
            Arc::new(client.finish(&second).unwrap().1),
            Arc::new(server),
        )
    }

    fn sealed(keys: &Arc<Keys>, request: u32, frames: &[&'static [u8]]) -> BytesMut {
        let (mut sealer, mut out) = (Sealer::new(Arc::clone(keys), request), BytesMut::new());
        for frame in frames {
            let mut data = Bytes::from_static(frame);
            while !sealer.seal_frame(&mut data, &mut out).unwrap() {}
        }
        sealer.seal_mark(Kind::End, &mut out).unwrap();
        out
    }

    fn open_all(
        keys: &Arc<Keys>,
        request: u32,
        mut bytes: BytesMut,
    ) -> Result<Vec<(Kind, Bytes)>, TransportError> {
        let mut opener = Opener::new(Arc::clone(keys), request);
        let mut chunks = Vec::new();
        while let Some(chunk) = split_chunk(&mut bytes) {
            chunks.push(opener.open(&chunk)?);
        }
        Ok(chunks)
    }

    #[test]
    fn any_changed_bit_is_seen() {
        let (client, server) = pair();
        let good = sealed(&client, 3, &[b"one", b"", b"three"]);
        let whole = open_all(&server, 3, good.clone()).unwrap();
        assert_eq!(whole.last().unwrap().0, Kind::End);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let ended = open_all(&server, 3, bad)
                .is_ok_and(|chunks| chunks.last().is_some_and(|last| last.0 == Kind::End));
            assert!(!ended, "bit {bit}");
        }
        assert_eq!(
            open_all(&server, 4, good.clone()),
            Err(TransportError::Tampered),
            "another request"
        );
        assert_eq!(
            open_all(&client, 3, good),
            Err(TransportError::Tampered),
            "the other direction"
        );
    }

    #[test]
    fn reordered_and_left_out_chunks_are_seen() {
        let (client, server) = pair();
        let mut bytes = sealed(&client, 0, &[b"aaa", b"bbb"]);
        let chunk = LENGTH + 1 + 3 + TAG;
        let (first, second) = (bytes.split_to(chunk), bytes.split_to(chunk));
        let join = |parts: &[&BytesMut]| {
            BytesMut::from(
                parts
                    .iter()
                    .map(|part| &part[..])
                    .collect::<Vec<_>>()
                    .concat()
                    .as_slice(),
            )
        };
        assert!(open_all(&server, 0, join(&[&first, &second, &bytes])).is_ok());
        for parts in [
            [&second, &first, &bytes].as_slice(),
            &[&first, &first, &second, &bytes],
            &[&first, &bytes],
            &[&second, &bytes],
        ] {
            assert_eq!(
                open_all(&server, 0, join(parts)),
                Err(TransportError::Tampered)
            );
        }
    }
}
