use bytes::Bytes;
use eidetica_transport::{FrameStream, TransportError, limits, pipe};
use futures::{FutureExt, executor::block_on, future::join};

#[test]
fn a_pipe_carries_frames_to_its_end() {
    block_on(async {
        let (mut sink, reader) = pipe();
        let mut stream = FrameStream::from(reader);
        let send = async {
            for byte in 0..100_u8 {
                sink.send(Bytes::from(vec![byte; 100_000])).await.unwrap();
            }
            sink.finish();
        };
        let read = async {
            for byte in 0..100_u8 {
                assert_eq!(stream.next().await.unwrap().unwrap(), vec![byte; 100_000]);
            }
            assert_eq!(stream.next().await, Ok(None));
        };
        join(send, read).await;
    });
}

#[test]
fn a_pipe_holds_what_its_limits_say() {
    let (mut sink, _reader) = pipe();
    for _ in 0..limits::PIPE_FRAMES {
        sink.send(Bytes::new()).now_or_never().unwrap().unwrap();
    }
    assert!(sink.send(Bytes::new()).now_or_never().is_none());

    let (mut sink, _reader) = pipe();
    sink.send(Bytes::from(vec![0; limits::PIPE_BYTES]))
        .now_or_never()
        .unwrap()
        .unwrap();
    assert!(sink.send(Bytes::from_static(b"x")).now_or_never().is_none());

    let (mut sink, _reader) = pipe();
    sink.send(Bytes::from(vec![0; limits::FRAME]))
        .now_or_never()
        .unwrap()
        .unwrap();
    let long = sink
        .send(Bytes::from(vec![0; limits::FRAME + 1]))
        .now_or_never()
        .unwrap();
    assert!(matches!(long, Err(TransportError::FrameTooLong { .. })));
}

#[test]
fn a_cancelled_send_sent_nothing() {
    block_on(async {
        let (mut sink, reader) = pipe();
        let mut stream = FrameStream::from(reader);
        sink.send(Bytes::from(vec![1; limits::PIPE_BYTES]))
            .await
            .unwrap();
        assert!(
            sink.send(Bytes::from_static(b"lost"))
                .now_or_never()
                .is_none()
        );
        assert_eq!(
            stream.next().await.unwrap().unwrap().len(),
            limits::PIPE_BYTES
        );
        sink.send(Bytes::from_static(b"kept")).await.unwrap();
        assert_eq!(stream.next().await, Ok(Some(Bytes::from_static(b"kept"))));
    });
}

#[test]
fn a_dropped_sink_is_a_cut_and_a_failed_one_gives_its_reason() {
    block_on(async {
        let (sink, reader) = pipe();
        drop(sink);
        assert_eq!(
            FrameStream::from(reader).next().await,
            Err(TransportError::Truncated)
        );
        let (sink, reader) = pipe();
        sink.fail(TransportError::Tampered);
        let mut stream = FrameStream::from(reader);
        assert_eq!(stream.next().await, Err(TransportError::Tampered));
        assert_eq!(stream.next().await, Ok(None), "an error is the last item");
    });
}

#[test]
fn a_dropped_reader_is_seen() {
    block_on(async {
        let (mut sink, reader) = pipe();
        sink.send(Bytes::from(vec![1; limits::PIPE_BYTES]))
            .await
            .unwrap();
        let wait = async {
            let sent = sink.send(Bytes::from_static(b"x")).await;
            sink.closed().await;
            sent
        };
        let (sent, ()) = join(wait, async { drop(reader) }).await;
        assert_eq!(sent, Err(TransportError::PeerGone));
    });
}
