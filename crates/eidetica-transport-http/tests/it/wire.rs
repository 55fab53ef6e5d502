//! What somebody on the wire sees and can do.

use std::time::Duration;

use bytes::Bytes;
use eidetica_transport::{Transport, contract::ask};
use eidetica_transport_http::{HttpLimits, HttpTransport};

use crate::{
    dial, echo_server, listen,
    proxy::{Fault, Proxy},
};

/// Short deadlines: a byte lost on the way may leave either side waiting.
fn impatient() -> HttpLimits {
    let mut limits = HttpLimits::default();
    limits.handshake = Duration::from_millis(400);
    limits.response = Duration::from_millis(400);
    limits.idle = Duration::from_millis(400);
    limits.keep_alive = Duration::from_millis(100);
    limits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_plaintext_is_seen() {
    let listener = listen(HttpLimits::default()).await;
    let proxy = Proxy::start(&listener.address(), [Fault::None; 2]).await;
    let server = echo_server(listener);
    let channel = dial(&proxy.address).await.unwrap();
    let secret = b"a secret that repeats itself, a secret that repeats itself";
    let frames = vec![
        Bytes::from_static(secret),
        Bytes::from(secret.repeat(5_000)),
    ];
    assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
    let [up, down] = proxy.seen();
    for bytes in [&up, &down] {
        assert!(
            bytes.len() > 5_000 * secret.len(),
            "the proxy saw the traffic"
        );
        assert!(
            !bytes
                .windows(8)
                .any(|window| secret.windows(8).any(|part| part == window))
        );
    }
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_look_different() {
    let listener = listen(HttpLimits::default()).await;
    let proxy = Proxy::start(&listener.address(), [Fault::None; 2]).await;
    let server = echo_server(listener);
    let channel = dial(&proxy.address).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let before = proxy.seen()[0].len();
        ask(&*channel, vec![Bytes::from_static(&[0; 64])])
            .await
            .unwrap();
        seen.push(proxy.seen()[0][before..].to_vec());
    }
    let windows = |bytes: &[u8]| {
        bytes
            .windows(16)
            .map(<[u8]>::to_vec)
            .collect::<std::collections::HashSet<_>>()
    };
    let chunk = |bytes: &[u8]| bytes[bytes.len() - 90..].to_vec();
    assert!(
        windows(&chunk(&seen[0])).is_disjoint(&windows(&chunk(&seen[1]))),
        "a nonce was used twice"
    );
    server.abort();
}

/// Runs an exchange through a faulty proxy; whatever it returns as whole must be what was sent. Says whether it did.
async fn survives(faults: [Fault; 2]) -> bool {
    let limits = impatient();
    let listener = listen(limits).await;
    let proxy = Proxy::start(&listener.address(), faults).await;
    let server = echo_server(listener);
    let frames = vec![
        Bytes::from(vec![7; 300]),
        Bytes::from_static(b"the last frame"),
    ];
    let transport = HttpTransport::with_limits(limits).unwrap();
    let got = async { ask(&*transport.connect(&proxy.address).await?, frames.clone()).await };
    let got = tokio::time::timeout(Duration::from_secs(120), got)
        .await
        .expect("nothing hangs");
    server.abort();
    if let Ok(got) = &got {
        assert!(*got == frames, "a wrong success with {faults:?}");
    }
    got.is_ok()
}

/// How many bytes the exchange takes in each direction.
async fn measure() -> [usize; 2] {
    let listener = listen(HttpLimits::default()).await;
    let proxy = Proxy::start(&listener.address(), [Fault::None; 2]).await;
    let server = echo_server(listener);
    let frames = vec![
        Bytes::from(vec![7; 300]),
        Bytes::from_static(b"the last frame"),
    ];
    ask(&*dial(&proxy.address).await.unwrap(), frames)
        .await
        .unwrap();
    let seen = proxy.seen().map(|bytes| bytes.len());
    server.abort();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_is_never_a_wrong_success() {
    let lens = measure().await;
    let mut failed = [0; 2];
    for direction in 0..2 {
        let faults = (0..lens[direction]).step_by(3).map(|at| {
            let mut faults = [Fault::None; 2];
            faults[direction] = Fault::Flip(at);
            faults
        });
        let survived = futures::future::join_all(faults.map(survives)).await;
        failed[direction] = survived.iter().filter(|survived| !**survived).count();
        // Spaces, dates and names of headers may be changed without harm; ciphertext may not.
        assert!(
            failed[direction] * 3 > survived.len(),
            "{failed:?} of {lens:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_never_a_wrong_success() {
    let lens = measure().await;
    for direction in 0..2 {
        let faults = (0..lens[direction]).step_by(2).map(|at| {
            let mut faults = [Fault::None; 2];
            faults[direction] = Fault::Cut(at);
            faults
        });
        let survived = futures::future::join_all(faults.map(survives)).await;
        let whole = survived.iter().filter(|survived| **survived).count();
        // Cuts after the authenticated end, in HTTP's own trailer, do no harm; and how the bytes fall into chunks,
        // and so how many there are, differs from run to run.
        assert!(whole * 4 < survived.len(), "{whole} of {lens:?}");
    }
}
