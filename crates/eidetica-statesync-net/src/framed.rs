//! Messages on a TCP connection: each behind its length, four bytes, little-endian.

use bytes::Bytes;
use futures::SinkExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::{Framed as Frames, LengthDelimitedCodec};

use crate::limits;

/// Bytes of the length before each message.
pub(crate) const PREFIX: usize = 4;

/// A connection as a stream and a sink of messages.
pub(crate) type Framed = Frames<TcpStream, LengthDelimitedCodec>;

/// Messages of at most `most` bytes: a longer length ends the stream with an error before anything is
/// allocated for it.
pub(crate) fn frames_of(stream: TcpStream, most: usize) -> Framed {
    let codec = LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_length(PREFIX)
        .max_frame_length(most)
        .new_codec();
    Frames::new(stream, codec)
}

/// Writes messages. The other side has to read them.
pub(crate) async fn send_all(
    frames: &mut Framed,
    messages: impl IntoIterator<Item = Vec<u8>>,
) -> std::io::Result<()> {
    for message in messages {
        within(frames.feed(Bytes::from(message))).await?;
    }
    within(SinkExt::<Bytes>::flush(frames)).await
}

async fn within(write: impl Future<Output = std::io::Result<()>>) -> std::io::Result<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    timeout(limits::WRITE, write).await.map_err(late)?
}
