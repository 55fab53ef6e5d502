//! Peers that speak the transport and the handshake, and then misbehave.

use std::time::Duration;

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, Permission, Revocation, Scope, SecretKey};
use eidetica_database::limits;
use eidetica_engine::{PeerStatus, Target};
use eidetica_entry::{
    Id,
    reconcile::{Detail, Span},
};
use eidetica_node::{Backend, NodeLimits};
use eidetica_protocol::{
    Frame, IdPrefix, IngestBatch, LiveMessage, LiveOpen, Refusal, Reply, Request, Spans, Stores,
    TipList,
    handshake::{Initiator, Side, VERSIONS},
};
use eidetica_transport::{
    Address, Channel, FrameSink, FrameStream, Transport, TransportError, memory::Hub, pipe,
};
use futures::executor::block_on;

use crate::world::{Net, Peer, eventually, now_ms};

async fn ask(channel: &dyn Channel, frame: Bytes) -> Result<Vec<Bytes>, TransportError> {
    let mut response = channel.request(FrameStream::of([frame])).await?;
    let mut frames = Vec::new();
    while let Some(frame) = response.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

/// A channel of a device that has introduced itself.
async fn introduce(
    hub: &Hub,
    address: &Address,
    device: &SecretKey,
) -> Result<Box<dyn Channel>, TransportError> {
    introduce_with(hub, address, device, &[]).await
}

/// One that acts for users, too.
async fn introduce_with(
    hub: &Hub,
    address: &Address,
    device: &SecretKey,
    claims: &[DeviceClaim],
) -> Result<Box<dyn Channel>, TransportError> {
    let channel = hub.transport().connect(address).await?;
    let side = Side {
        device,
        binding: *channel.binding().as_bytes(),
        nonce: [3; 32],
        versions: VERSIONS,
    };
    let (waiting, hello) = Initiator::start(&side, None).unwrap();
    let answer = ask(&*channel, hello).await?.remove(0);
    let (proving, proof) = waiting.answered(&answer, device, claims).unwrap();
    proving
        .welcomed(&ask(&*channel, proof).await?.remove(0))
        .unwrap();
    Ok(channel)
}

fn hub(net: &Net) -> Hub {
    match net {
        Net::Memory(hub) => hub.clone(),
        Net::Http | Net::Iroh => unreachable!(),
    }
}

#[test]
fn denied_and_absent_are_the_same_bytes() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let there = alice.create(&[], None).id();
    alice.write(there, "secret", "text");
    let tip = alice.tips(there)[0];
    let hidden = alice.create(&[], Some(Permission::Write(1))).id();
    alice.hide(hidden);
    let (nowhere, address) = (Id::new([77; 32]), alice.serve());
    let eve = SecretKey::from_bytes(&[200; 32]);
    block_on(async {
        let channel = introduce(&hub(&net), &address, &eve).await.unwrap();
        let requests = |database: Id| {
            let tips = TipList::new(Vec::new());
            [
                Request::Compare {
                    database,
                    tips,
                    common: vec![tip],
                    closures: Vec::new(),
                },
                Request::Describe {
                    database,
                    spans: Spans::new(&[(Span::ALL, Detail::Stamps)]),
                },
                Request::Push {
                    database,
                    wants: vec![IdPrefix::of(&tip)],
                    closures: Vec::new(),
                },
                Request::Push {
                    database,
                    wants: Vec::new(),
                    closures: Vec::new(),
                },
                Request::Void {
                    database,
                    leaves: vec![tip],
                },
                Request::Payloads {
                    database,
                    ids: vec![IdPrefix::of(&tip)],
                },
                Request::Lacking { database },
            ]
            .into_iter()
            .flat_map(both_forms)
        };
        for ((denied, absent), hidden) in
            requests(there).zip(requests(nowhere)).zip(requests(hidden))
        {
            let absent = ask(&*channel, absent).await.unwrap();
            assert_eq!(absent.len(), 1);
            assert_eq!(ask(&*channel, denied).await.unwrap(), absent);
            assert_eq!(ask(&*channel, hidden).await.unwrap(), absent);
        }
    });
}

/// Whoever may not read gets from a server that has a database what it gets from one that has nothing, byte for byte.
#[test]
fn no_stranger_learns_what_is_there() {
    let net = Net::memory();
    let (alice, nobody) = (Peer::new(&net, "alice"), Peer::new(&net, "nobody"));
    let servers = [alice.serve(), nobody.serve()];
    let [device, member, revoked, reader, unknown] =
        [200, 201, 202, 203, 204].map(|n| SecretKey::from_bytes(&[n; 32]));
    let write = Permission::Write(5);
    let members = [(member.public(), write), (revoked.public(), write)];
    let (there, other) = (
        alice.create(&members, None).id(),
        alice
            .create(&[(reader.public(), Permission::Read)], None)
            .id(),
    );
    alice
        .database(there)
        .transact(|transaction| {
            transaction
                .settings()
                .revoke(Revocation::of(revoked.public()))
        })
        .unwrap();
    alice.write(there, "secret", "text");
    let tip = alice.tips(there)[0];
    let far = now_ms() + 3_600_000;
    let claim = |key: &SecretKey, scope, until_ms| {
        vec![DeviceClaim::make(key, device.public(), scope, until_ms).unwrap()]
    };
    let requests = [
        Request::Compare {
            database: there,
            tips: TipList::new(Vec::new()),
            common: vec![tip],
            closures: Vec::new(),
        },
        Request::Describe {
            database: there,
            spans: Spans::new(&[(Span::ALL, Detail::Stamps)]),
        },
        Request::Push {
            database: there,
            wants: vec![IdPrefix::of(&tip)],
            closures: Vec::new(),
        },
        Request::Push {
            database: there,
            wants: Vec::new(),
            closures: Vec::new(),
        },
        Request::Void {
            database: there,
            leaves: Vec::new(),
        },
        Request::Payloads {
            database: there,
            ids: vec![IdPrefix::of(&tip)],
        },
        Request::Lacking { database: there },
    ];
    let requests: Vec<Bytes> = requests.into_iter().flat_map(both_forms).collect();
    let answers = |claims: Vec<DeviceClaim>| {
        let hub = hub(&net);
        servers.clone().map(|address| {
            block_on(async {
                let channel = introduce_with(&hub, &address, &device, &claims)
                    .await
                    .unwrap();
                let mut answers = Vec::new();
                for request in &requests {
                    answers.push(ask(&*channel, request.clone()).await.unwrap());
                }
                let discover = Frame::Request(Request::Discover).encode().unwrap();
                let found = ask(&*channel, discover).await.unwrap().concat();
                let is_named = found.windows(32).any(|bytes| bytes == there.as_bytes());
                (answers, is_named)
            })
        })
    };
    let strangers = [
        ("a member's device without its claim", vec![]),
        ("an unknown key", claim(&unknown, Scope::All, far)),
        ("a revoked key", claim(&revoked, Scope::All, far)),
        (
            "a reader of another database",
            claim(&reader, Scope::All, far),
        ),
        (
            "a claim that is over",
            claim(&member, Scope::All, now_ms() - 1),
        ),
        (
            "a claim for another database",
            claim(&member, Scope::Databases(vec![other]), far),
        ),
    ];
    for (who, claims) in strangers {
        let [there, nothing] = answers(claims);
        assert_eq!(there, nothing, "{who}");
        assert!(!there.1, "{who}");
    }
    let [there, nothing] = answers(claim(&member, Scope::All, far));
    assert!(there.1 && there.0.iter().zip(&nothing.0).all(|(a, b)| a != b));
}

/// A request as it was in version 1, and with the stores that are wanted.
fn both_forms(request: Request) -> [Bytes; 2] {
    [
        Frame::Request(request.clone()),
        Frame::RequestFor(Stores::All, request),
    ]
    .map(|frame| frame.encode().unwrap())
}

/// Whoever may write to one database pushes what another has, and packs that claim more than they are.
#[test]
fn packs_in_the_wrong_database_and_absurd_counts_are_refused() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let everybody = Some(Permission::Write(10));
    let [one, other] = [0, 1].map(|_| alice.create(&[], everybody).id());
    (0..40).for_each(|n| alice.write(other, "n", &n.to_string()));
    let page = alice.databases.difference(&other, &[], None, usize::MAX);
    let packs = page.unwrap().packs;
    // What a pack begins with says how many entries it has: every byte of that the greatest, one after the other.
    let absurd = (0..64).map(|at| {
        let mut pack = packs[0].to_vec();
        pack.iter_mut()
            .skip(at)
            .take(8)
            .for_each(|byte| *byte = 0xff);
        Bytes::from(pack)
    });
    let absurd = absurd.flat_map(|pack| [(one, pack.clone()), (other, pack)]);
    let bad: Vec<(Id, Bytes, bool)> = absurd
        .map(|(id, pack)| (id, pack, true))
        // It might be a database that this one delegates to: it is let in where it belongs, and here it is nothing.
        .chain([(one, packs[0].clone(), false)])
        .collect();
    let before = [one, other].map(|id| alice.tips(id));
    let address = alice.serve();
    let eve = SecretKey::from_bytes(&[200; 32]);
    block_on(async {
        for (database, pack, is_refused) in bad {
            let channel = introduce(&hub(&net), &address, &eve).await.unwrap();
            let begin = Request::Push {
                database,
                wants: Vec::new(),
                closures: Vec::new(),
            };
            let frames = [Frame::Request(begin), Frame::Pack(pack)];
            let frames = frames.map(|frame| frame.encode().unwrap());
            let mut response = channel.request(FrameStream::of(frames)).await.unwrap();
            let frame = response.next().await.unwrap().unwrap();
            let reply = Frame::decode(&frame).unwrap();
            let refused = Frame::Reply(Reply::Refused(Refusal::BAD_PACK));
            match is_refused {
                true => assert_eq!(reply, refused),
                false => assert!(matches!(reply, Frame::Reply(Reply::Pushed { new: 0, .. }))),
            }
        }
    });
    assert_eq!([one, other].map(|id| alice.tips(id)), before);
    assert!(alice.databases.verify().unwrap().faults.is_empty());
}

#[test]
fn requests_before_the_handshake_are_not_answered() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let id = alice.create(&[], Some(Permission::Read)).id();
    let address = alice.serve();
    block_on(async {
        let channel = hub(&net).transport().connect(&address).await.unwrap();
        let request = Frame::Request(Request::Compare {
            database: id,
            tips: TipList::new(Vec::new()),
            common: Vec::new(),
            closures: Vec::new(),
        })
        .encode()
        .unwrap();
        let answer = ask(&*channel, request.clone()).await;
        let refused = answer.is_err()
            || answer.is_ok_and(|frames| frames.iter().all(|frame| frame.len() < 64));
        assert!(refused);
        assert!(
            ask(&*channel, request).await.is_err(),
            "the channel is closed"
        );
    });
}

#[test]
fn silent_channels_leave_room_for_others() {
    let net = Net::memory();
    let mut limits = NodeLimits::default();
    limits.handshake = Duration::from_secs(1);
    limits.handshakes = 4;
    let alice = Peer::with_limits(&net, "alice", limits);
    let bob = Peer::new(&net, "bob");
    let address = alice.serve();
    let silent: Vec<_> = block_on(async {
        let transport = hub(&net).transport();
        futures::future::join_all((0..10).map(|_| transport.connect(&address))).await
    });
    eventually("room", || {
        bob.node
            .connect(Target::Address(address.clone()))
            .wait()
            .is_ok()
    });
    drop(silent);
}

#[test]
fn one_device_has_few_channels_and_its_newest_work() {
    let net = Net::memory();
    let mut limits = NodeLimits::default();
    limits.channels_per_device = 2;
    let alice = Peer::with_limits(&net, "alice", limits);
    let address = alice.serve();
    let eve = SecretKey::from_bytes(&[200; 32]);
    block_on(async {
        let discover = || Frame::Request(Request::Discover).encode().unwrap();
        let mut channels = Vec::new();
        for _ in 0..3 {
            let channel = introduce(&hub(&net), &address, &eve).await.unwrap();
            assert_eq!(ask(&*channel, discover()).await.unwrap().len(), 1);
            channels.push(channel);
        }
        assert_eq!(ask(&*channels[1], discover()).await.unwrap().len(), 1);
        assert!(
            ask(&*channels[0], discover()).await.is_err(),
            "the oldest is closed"
        );
    });
}

#[test]
fn stalled_requests_do_not_stop_an_honest_peer() {
    let net = Net::memory();
    let (alice, bob) = (Peer::new(&net, "alice"), Peer::new(&net, "bob"));
    let id = alice
        .create(
            &[(bob.key.public(), Permission::Write(1))],
            Some(Permission::Read),
        )
        .id();
    let text = "y".repeat(20_000);
    for number in 0..200 {
        alice.write(id, &format!("n.{number}"), &text);
    }
    let address = alice.serve();
    let stalled = block_on(async {
        let mut stalled = Vec::new();
        for number in 0..50_u8 {
            let device = SecretKey::from_bytes(&[100 + number; 32]);
            let channel = introduce(&hub(&net), &address, &device).await.unwrap();
            // Fetches all and reads nothing; pushes and never goes on.
            let fetch = Frame::Request(Request::Compare {
                database: id,
                tips: TipList::new(Vec::new()),
                common: Vec::new(),
                closures: Vec::new(),
            })
            .encode()
            .unwrap();
            let fetched = channel.request(FrameStream::of([fetch])).await.unwrap();
            let (mut up, body) = pipe();
            up.send(
                Frame::Request(Request::Push {
                    database: id,
                    wants: Vec::new(),
                    closures: Vec::new(),
                })
                .encode()
                .unwrap(),
            )
            .await
            .unwrap();
            let pushed = channel.request(body.into()).await.unwrap();
            stalled.push((channel, fetched, up, pushed));
        }
        stalled
    });
    bob.try_sync(&address, id).unwrap();
    for number in 0..5 {
        bob.write(id, "bob", &format!("{number}"));
        bob.try_sync(&address, id).unwrap();
        assert_eq!(alice.read(id, "bob"), Some(format!("{number}")));
    }
    drop(stalled);
}

#[test]
fn requests_that_ask_nothing_take_no_places() {
    let net = Net::memory();
    let (alice, bob) = (Peer::new(&net, "alice"), Peer::new(&net, "bob"));
    let id = alice.create(&[], Some(Permission::Read)).id();
    let address = alice.serve();
    let per_channel = NodeLimits::default().requests_per_channel;
    // More than there are places, all of strangers.
    let silent = block_on(async {
        let mut silent = Vec::new();
        for number in 0..NodeLimits::default().requests.div_ceil(per_channel) {
            let device = SecretKey::from_bytes(&[100 + number as u8; 32]);
            let channel = introduce(&hub(&net), &address, &device).await.unwrap();
            let mut requests = Vec::new();
            for _ in 0..per_channel {
                let (up, body) = pipe();
                requests.push((up, channel.request(body.into()).await.unwrap()));
            }
            silent.push((channel, requests));
        }
        silent
    });
    bob.try_sync(&address, id).unwrap();
    drop(silent);
}

/// One device takes all places that strangers may have and gives none back: it keeps its share.
#[test]
fn a_device_that_holds_all_places_gives_one_up() {
    let net = Net::memory();
    let mut limits = NodeLimits::default();
    (limits.requests, limits.requests_for_known) = (16, 4);
    let alice = Peer::with_limits(&net, "alice", limits);
    let bob = Peer::new(&net, "bob");
    let id = alice.create(&[], Some(Permission::Read)).id();
    for n in 0..20 {
        let noise = std::iter::repeat_with(|| char::from(b'!' + rand::random::<u8>() % 90));
        alice.write(
            id,
            &format!("text{n}"),
            &noise.take(100_000).collect::<String>(),
        );
    }
    let address = alice.serve();
    let fetch = Frame::Request(Request::Compare {
        database: id,
        tips: TipList::new(Vec::new()),
        common: Vec::new(),
        closures: Vec::new(),
    });
    let fetch = fetch.encode().unwrap();
    let held = block_on(async {
        let eve = SecretKey::from_bytes(&[200; 32]);
        let (mut held, mut channels) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let channel = introduce(&hub(&net), &address, &eve).await.unwrap();
            for _ in 0..6 {
                let request = FrameStream::of([fetch.clone()]);
                let mut response = channel.request(request).await.unwrap();
                // It is answered, and not read to its end.
                assert!(response.next().await.unwrap().is_some());
                held.push(response);
            }
            // One more is told that there is no place.
            let refused = Frame::Reply(Reply::Refused(Refusal::UNAVAILABLE));
            if held.len() == 12 {
                let answer = ask(&*channel, fetch.clone()).await.unwrap();
                assert_eq!(answer, [refused.encode().unwrap()]);
            }
            channels.push(channel);
        }
        (held, channels)
    });
    bob.try_sync(&address, id).unwrap();
    assert_eq!(bob.tips(id), alice.tips(id));
    drop(held);
}

#[test]
fn garbage_ends_its_own_request_only() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let address = alice.serve();
    let eve = SecretKey::from_bytes(&[200; 32]);
    block_on(async {
        let channel = introduce(&hub(&net), &address, &eve).await.unwrap();
        for garbage in [&b""[..], b"\0", b"\xff\xff\xff\xff", &[7; 5_000]] {
            // Refused or cut, but soon.
            let _ = ask(&*channel, Bytes::copy_from_slice(garbage)).await;
        }
        let discover = Frame::Request(Request::Discover).encode().unwrap();
        assert_eq!(ask(&*channel, discover).await.unwrap().len(), 1);
    });
}

#[test]
fn a_device_is_not_talked_to_by_itself() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let address = alice.serve();
    assert!(alice.node.connect(Target::Address(address)).wait().is_err());
}

#[test]
fn a_flood_of_orphans_leaves_room_for_those_of_another_peer() {
    let net = Net::memory();
    let (alice, bob) = (Peer::new(&net, "alice"), Peer::new(&net, "bob"));
    let id = alice.create(&[], None).id();
    let packs = |not: &[Id]| {
        let page = alice.databases.difference(&id, not, None, usize::MAX);
        page.unwrap().packs
    };
    let backend = bob.backend();
    let send = |packs: Vec<Bytes>, create: bool, from: u8| {
        let batch = IngestBatch {
            database: id,
            packs,
            create,
        };
        let from = SecretKey::from_bytes(&[from; 32]).public();
        backend.ingest(&batch, &from, Box::new(())).unwrap()
    };
    send(packs(&[]), true, 1);
    alice.write(id, "n", "never sent");
    let missing = alice.tips(id);
    alice.write(id, "n", "sent by an honest peer");
    let (honest, sent) = (packs(&missing), alice.tips(id));
    for n in 0..limits::PENDING_PER_SOURCE {
        alice.write(id, "n", &n.to_string());
    }
    send(honest, false, 2);
    let waiting = || bob.databases.get(&id).unwrap().pending().0;
    assert_eq!(waiting(), 1);
    send(packs(&sent), false, 3);
    assert_eq!(
        waiting(),
        1 + limits::PENDING_PER_SOURCE,
        "the flood displaces only its own"
    );
}

/// Who subscribes before the first entry came hears of later ones, and is asked which it has.
#[test]
fn nothing_is_known_of_a_database_that_is_not_here() {
    let net = Net::memory();
    let (alice, bob) = (Peer::new(&net, "alice"), Peer::new(&net, "bob"));
    let id = alice.create(&[], None).id();
    let tips = alice.tips(id);
    assert_eq!(alice.backend().known(&id, &tips).unwrap(), [true]);
    assert_eq!(bob.backend().known(&id, &tips).unwrap(), [false]);
}

/// Reads until so many claims are shown.
pub(crate) fn hears_claims(news: &mut FrameStream, count: usize) {
    block_on(async {
        loop {
            let frame = news.next().await.unwrap().expect("claims");
            if let Frame::Live(LiveMessage::Claims { claims }) = Frame::decode(&frame).unwrap()
                && claims.len() == count
            {
                return;
            }
        }
    });
}

/// Sends entries on a live stream that are none, as somebody who may write.
pub(crate) fn poison(net: &Net, address: &Address, id: Id) -> bool {
    let open = LiveOpen {
        set: [0; 32],
        count: 1,
    };
    let tips = TipList::new(Vec::new());
    let entries = LiveMessage::Entries {
        database: id,
        tips,
        packs: 1,
    };
    let frames = [
        Frame::Request(Request::Live(open)),
        Frame::Live(LiveMessage::Subscribe {
            databases: vec![id],
        }),
        Frame::Live(entries),
        Frame::Pack(Bytes::from_static(b"no pack")),
    ];
    block_on(async {
        let device = SecretKey::from_bytes(&[66; 32]);
        let channel = introduce(&hub(net), address, &device).await.unwrap();
        let (mut up, body) = pipe();
        for frame in &frames {
            up.send(frame.encode().unwrap()).await.unwrap();
        }
        let mut news = channel.request(body.into()).await.unwrap();
        while let Ok(Some(_)) = news.next().await {}
        true
    })
}

/// Devices that listen for news of a database and read nothing of what they are told.
pub(crate) fn stalled_listeners(
    net: &Net,
    address: &Address,
    id: Id,
    count: u16,
) -> Vec<(Box<dyn Channel>, FrameStream, FrameSink)> {
    let open = LiveOpen {
        set: [0; 32],
        count: 1,
    };
    let subscribe = LiveMessage::Subscribe {
        databases: vec![id],
    };
    let frames = [
        Frame::Request(Request::Live(open)),
        Frame::Live(subscribe),
        Frame::Live(LiveMessage::Check),
    ];
    block_on(async {
        let mut stalled = Vec::new();
        for number in 0..count {
            let mut seed = [77; 32];
            seed[..2].copy_from_slice(&number.to_be_bytes());
            let device = SecretKey::from_bytes(&seed);
            let channel = introduce(&hub(net), address, &device).await.unwrap();
            let (mut up, body) = pipe();
            for frame in &frames {
                up.send(frame.encode().unwrap()).await.unwrap();
            }
            let news = channel.request(body.into()).await.unwrap();
            stalled.push((channel, news, up));
        }
        stalled
    })
}

#[test]
fn a_device_that_is_blocked_is_answered_no_further() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let id = alice.create(&[], Some(Permission::Read)).id();
    for n in 0..60 {
        let text: String = (0..100_000)
            .map(|_| char::from(b'!' + rand::random::<u8>() % 90))
            .collect();
        alice.write(id, &format!("text{n}"), &text);
    }
    let address = alice.serve();
    let eve = SecretKey::from_bytes(&[200; 32]);
    alice.node.register_peer(eve.public(), None).wait().unwrap();
    let answered = |blocked: bool| {
        block_on(async {
            let channel = introduce(&hub(&net), &address, &eve).await.unwrap();
            let compare = Request::Compare {
                database: id,
                tips: TipList::new(Vec::new()),
                common: Vec::new(),
                closures: Vec::new(),
            };
            let frame = Frame::Request(compare).encode().unwrap();
            let mut response = channel.request(FrameStream::of([frame])).await.unwrap();
            response.next().await.unwrap().expect("an answer");
            if blocked {
                let blocking = alice
                    .node
                    .set_peer_status(eve.public(), PeerStatus::Blocked);
                blocking.wait().unwrap();
            }
            loop {
                match response.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        })
    };
    assert!(answered(false));
    assert!(!answered(true));
}
