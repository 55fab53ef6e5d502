//! Messages on a TCP connection: each behind its length, four bytes, little-endian.

use std::io;

use bytes::{BufMut as _, BytesMut};
use futures::SinkExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder, Framed as Frames, LengthDelimitedCodec};

use crate::limits;

/// Bytes of the length before each message.
const PREFIX: usize = 4;

/// A connection as a stream and a sink of messages.
pub(crate) type Framed = Frames<TcpStream, Codec>;

/// Reads messages of at most so many bytes, and writes any.
pub(crate) struct Codec {
    reading: LengthDelimitedCodec,
}

impl Decoder for Codec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        self.reading.decode(from)
    }
}

impl Encoder<Vec<u8>> for Codec {
    type Error = io::Error;

    fn encode(&mut self, message: Vec<u8>, into: &mut BytesMut) -> io::Result<()> {
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        into.reserve(PREFIX + message.len());
        into.put_u32_le(length);
        into.extend_from_slice(&message);
        Ok(())
    }
}

/// Messages on a connection. A length above `most` ends the stream with an error before anything is allocated
/// for it.
pub(crate) fn frames_of(stream: TcpStream, most: usize) -> Framed {
    let reading = LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_length(PREFIX)
        .max_frame_length(most)
        .new_codec();
    Frames::new(stream, Codec { reading })
}

/// Writes messages. The other side has to read them.
pub(crate) async fn send_all(
    frames: &mut Framed,
    messages: impl IntoIterator<Item = Vec<u8>>,
) -> io::Result<()> {
    for message in messages {
        within(frames.feed(message)).await?;
    }
    within(frames.flush()).await
}

async fn within(write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limits::WRITE, write).await.map_err(late)?
}
