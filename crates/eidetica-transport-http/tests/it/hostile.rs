//! Peers that speak something else, or nothing, or too slowly.

use std::time::Duration;

use bytes::Bytes;
use eidetica_transport::{
    Address, FrameStream, Listener, Transport, TransportError, contract::ask,
};
use eidetica_transport_http::{HttpLimits, HttpTransport};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{dial, echo_server, listen, pair};

async fn socket(address: &Address) -> TcpStream {
    TcpStream::connect((address.host(), address.port().unwrap()))
        .await
        .unwrap()
}

/// Sends bytes and returns what comes back until the server closes or a second passes.
async fn say(address: &Address, bytes: &[u8]) -> Vec<u8> {
    let mut socket = socket(address).await;
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.read_to_end(&mut answer)).await;
    answer
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/vnd.eidetica\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer)
        .split(' ')
        .nth(1)
        .unwrap_or("")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_answered_cleanly_and_harms_nobody() {
    let listener = listen(HttpLimits::default()).await;
    let address = listener.address();
    let server = echo_server(listener);
    let channel = dial(&address).await.unwrap();

    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), "404"),
        (b"POST /eidetica/v1/open HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n".to_vec(), "415"),
        (post("/eidetica/v2/open", &[1; 32]), "404"),
        (post("/eidetica/v1/open", &[1; 31]), "400"),
        (post("/eidetica/v1/open", &[1; 33]), "400"),
        (post("/eidetica/v1/open", &[0; 32]), "400"),
        (post("/eidetica/v1/request", &[]), "400"),
        (post("/eidetica/v1/request", &[0; 19]), "400"),
        (post("/eidetica/v1/request", &[&[0; 20][..], &[17, 0], &[0; 17]].concat()), "410"),
        (post("/eidetica/v1/close", &[&[0; 20][..], &[17, 0], &[0; 17]].concat()), "410"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "400"),
        ([b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(100), b"\r\n"].concat(), "431"),
        ([b"GET / HTTP/1.1\r\na: ".as_slice(), &[b'a'; 20_000], b"\r\n\r\n"].concat(), "431"),
    ];
    for (bytes, expected) in cases {
        let answer = say(&address, &bytes).await;
        assert_eq!(
            status(&answer),
            expected,
            "{:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
        );
    }
    let frames = vec![Bytes::from_static(b"still here")];
    assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_other_end_is_a_clean_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::http(&listener.local_addr().unwrap().to_string()).unwrap();
        let server = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        assert!(dial(&address).await.is_err(), "{answer:?}");
        server.abort();
    }
}

/// Answers that point elsewhere, as HTTP can, lead nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_makes_us_dial_another_place() {
    let bait = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let place = format!("http://{}/eidetica/v1/open", bait.local_addr().unwrap());
    let mut answers: Vec<String> = [301, 302, 303, 307, 308, 305, 407, 503]
        .map(|code| format!("HTTP/1.1 {code} Elsewhere\r\nlocation: {place}\r\nretry-after: 0\r\n"))
        .to_vec();
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.eidetica\r\n";
    answers.extend([
        format!("{ok}alt-svc: h2=\"{}\"\r\n", bait.local_addr().unwrap()),
        format!("{ok}refresh: 0; url={place}\r\n"),
        format!("{ok}link: <{place}>; rel=preload\r\n"),
        format!("{ok}content-location: {place}\r\n"),
        format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: {place}\r\nconnection: upgrade\r\n"),
    ]);
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::http(&listener.local_addr().unwrap().to_string()).unwrap();
        let text = format!("{answer}content-length: 0\r\n\r\n");
        let server = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(text.as_bytes()).await;
            }
        });
        assert!(dial(&address).await.is_err(), "{answer:?}");
        // Whoever has connected is in the queue by now, however far he got.
        let dialled = bait.accept();
        assert!(
            dialled.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "{answer:?} was followed"
        );
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::http(&listener.local_addr().unwrap().to_string()).unwrap();
    let mut limits = HttpLimits::default();
    limits.handshake = Duration::from_millis(100);
    let error = HttpTransport::with_limits(limits)
        .unwrap()
        .connect(&address)
        .await
        .err();
    assert_eq!(
        error,
        Some(TransportError::TimedOut {
            what: "handshake",
            after_ms: 100
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_clients_do_not_stop_an_honest_one() {
    let listener = listen(HttpLimits::default()).await;
    let address = listener.address();
    let server = echo_server(listener);
    let big = Bytes::from(vec![1; 4 << 20]);

    // 200 in all: 50 that say nothing, 50 that send half a head, 50 that begin a body and stop, 50 that never read a response.
    let silent = join_all((0..50).map(|_| socket(&address))).await;
    let half: Vec<_> = join_all((0..50).map(|_| async {
        let mut socket = socket(&address).await;
        socket
            .write_all(b"POST /eidetica/v1/open HTTP/1.1\r\nhost:")
            .await
            .unwrap();
        socket
    }))
    .await;
    let begun: Vec<_> = join_all((0..50).map(|_| async {
        let mut socket = socket(&address).await;
        let bytes = post("/eidetica/v1/request", &[0; 100]);
        socket.write_all(&bytes[..bytes.len() - 90]).await.unwrap();
        socket
    }))
    .await;
    let stalled: Vec<_> = join_all((0..50).map(|_| async {
        let channel = dial(&address).await.unwrap();
        let response = channel
            .request(FrameStream::of(vec![big.clone(); 8]))
            .await
            .unwrap();
        (channel, response)
    }))
    .await;

    let honest = async {
        let channel = dial(&address).await.unwrap();
        for number in 0..50_u8 {
            let frames = vec![Bytes::from(vec![number; 10_000])];
            assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), honest)
        .await
        .expect("an honest client waits for stalled ones");
    drop((silent, half, begun, stalled));
    server.abort();
}

/// No byte is late, and all of them together never come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_byte_at_a_time_is_hung_up_on() {
    let mut limits = HttpLimits::default();
    let short = Duration::from_millis(500);
    (limits.head, limits.handshake, limits.idle) = (short, short, short);
    let listener = listen(limits).await;
    let address = listener.address();
    let server = echo_server(listener);
    let whole = post("/eidetica/v1/open", &[1; 32]);
    let body = whole.len() - 32;
    let slow = post("/eidetica/v1/request", &[7; 1_000]);
    let cases = [
        ("a head", &whole[..0], &whole[..body]),
        ("a handshake", &whole[..body], &whole[body..]),
        (
            "a request",
            &slow[..slow.len() - 1_000],
            &slow[slow.len() - 1_000..],
        ),
    ];
    for (what, at_once, slowly) in cases {
        let mut socket = socket(&address).await;
        socket.write_all(at_once).await.unwrap();
        let (mut from, mut to) = socket.split();
        let mut sent = 0;
        let mut answer = Vec::new();
        let trickle = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            for byte in slowly {
                ticks.tick().await;
                if to.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sent += 1;
            }
            // Whoever is not hung up on by now is not hung up on.
            std::future::pending::<()>().await;
        };
        let ended = async {
            let _ = from.read_to_end(&mut answer).await;
        };
        let race = futures::future::select(Box::pin(trickle), Box::pin(ended));
        let race = tokio::time::timeout(Duration::from_secs(20), race).await;
        assert!(race.is_ok(), "{what} may take for ever");
        drop(race);
        assert!(sent < slowly.len(), "{what} was waited for");
        assert_ne!(status(&answer), "200", "{what}");
    }
    let frames = vec![Bytes::from_static(b"still here")];
    let channel = dial(&address).await.unwrap();
    assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_is_a_timeout_at_the_reader() {
    let mut limits = HttpLimits::default();
    limits.idle = Duration::from_millis(200);
    // The client would keep its stream alive; this one is stopped by a proxy that swallows everything after a while.
    let mut quiet = HttpLimits::default();
    quiet.keep_alive = Duration::from_secs(60);
    let mut listener = listen(limits).await;
    let address = listener.address();
    let transport = HttpTransport::with_limits(quiet).unwrap();
    let (client, server) = futures::join!(transport.connect(&address), listener.accept());
    let (client, mut server) = (client.unwrap(), server.unwrap());
    let (_sink, body) = eidetica_transport::pipe();
    let (response, request) = futures::join!(client.request(body.into()), server.next_request());
    let (_response, (mut request, _sink)) = (response.unwrap(), request.unwrap());
    assert_eq!(
        request.next().await,
        Err(TransportError::TimedOut {
            what: "data",
            after_ms: 200
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alives_keep_a_quiet_stream() {
    let mut limits = HttpLimits::default();
    limits.idle = Duration::from_secs(3);
    limits.keep_alive = Duration::from_millis(100);
    let transport = HttpTransport::with_limits(limits).unwrap();
    let mut listener = transport.listen("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let (client, server) = futures::join!(transport.connect(&address), listener.accept());
    let (client, mut server) = (client.unwrap(), server.unwrap());
    server.mark_proven();
    let (mut up, body) = eidetica_transport::pipe();
    let (response, request) = futures::join!(client.request(body.into()), server.next_request());
    let (mut response, (mut request, mut sink)) = (response.unwrap(), request.unwrap());
    let quiet = Duration::from_secs(4);
    let nothing = futures::future::select(Box::pin(request.next()), Box::pin(response.next()));
    assert!(
        tokio::time::timeout(quiet, nothing).await.is_err(),
        "a quiet stream ended"
    );
    let speak = async {
        up.send(Bytes::from_static(b"up")).await.unwrap();
        sink.send(Bytes::from_static(b"down")).await.unwrap();
    };
    let (up, down, ()) = futures::join!(request.next(), response.next(), speak);
    assert_eq!(
        (up, down),
        (
            Ok(Some(Bytes::from_static(b"up"))),
            Ok(Some(Bytes::from_static(b"down")))
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_request_cannot_be_replayed() {
    let mut listener: Box<dyn Listener> = listen(HttpLimits::default()).await;
    let proxy =
        crate::proxy::Proxy::start(&listener.address(), [crate::proxy::Fault::None; 2]).await;
    let address = listener.address();
    let (client, server) = futures::join!(dial(&proxy.address), listener.accept());
    let (client, mut server) = (client.unwrap(), server.unwrap());
    let before = proxy.seen()[0].len();
    let serve = async {
        let (mut request, response) = server.next_request().await.unwrap();
        response.finish();
        request.next().await
    };
    let (answer, got) = futures::join!(ask(&*client, vec![Bytes::from_static(b"pay 5")]), serve);
    assert_eq!(
        (answer, got),
        (Ok(vec![]), Ok(Some(Bytes::from_static(b"pay 5"))))
    );
    let recorded = proxy.seen()[0][before..].to_vec();
    assert!(recorded.starts_with(b"POST /eidetica/v1/request "));
    assert_eq!(status(&say(&address, &recorded).await), "409");
    let (mut other, _server) = pair(&mut listener).await;
    other = {
        other.close().await;
        other
    };
    assert_eq!(
        other.request(FrameStream::empty()).await.err(),
        Some(TransportError::Closed)
    );
}
