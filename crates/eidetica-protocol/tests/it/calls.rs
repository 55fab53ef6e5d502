//! Discovery and bootstrap requests.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_auth::{
    AccessRequest, DeviceClaim, KeyName, Permission, RequestId, Scope, SignedRequest,
};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Answer, BootstrapAnswer, Call, CallReply, DatabaseInfo, Failure, Frame, Input, Output, Query,
    Refusal, Reply, Request, RequestRef, Responder, ResponderConfig, Served, limits,
};

use crate::{
    handshake::shake,
    pair::{NOW, key, replies},
};

/// Runs a responder to its end with these answers.
fn respond(
    claims: &[DeviceClaim],
    request: &Frame,
    answer: &mut dyn FnMut(Query) -> Answer,
) -> (Vec<Bytes>, Result<Served, Failure>) {
    let peer = shake(&key(1), &key(2), claims).unwrap().proven;
    let mut machine = Responder::new(ResponderConfig {
        peer,
        claims: Vec::new(),
    });
    machine.handle_input(Input::Frame(request.encode().unwrap()), NOW);
    let mut frames = Vec::new();
    loop {
        match machine.poll_output(NOW) {
            Output::Send(frame) => frames.push(frame),
            Output::Query(id, query) => {
                machine.handle_input(Input::Answer(id, Ok(answer(query))), NOW)
            }
            Output::Done(served) => return (frames, served),
            Output::End => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Runs a call against a response.
fn call(mut call: Call, response: &[Bytes]) -> Result<CallReply, Failure> {
    let mut response = response.iter();
    loop {
        match call.poll_output(NOW) {
            Output::Done(result) => return result,
            Output::Timeout(_) => {
                let input = response
                    .next()
                    .map_or(Input::End, |frame| Input::Frame(frame.clone()));
                call.handle_input(input, NOW);
            }
            _ => {}
        }
    }
}

fn id(n: u8) -> Id {
    Id::new([n; 32])
}

fn claim(of: u8, scope: Scope) -> DeviceClaim {
    DeviceClaim::make(&key(of), key(1).public(), scope, NOW + 1000).unwrap()
}

fn signed(device: PublicKey) -> SignedRequest {
    let request = AccessRequest {
        database: id(1),
        key: key(9).public(),
        permission: Permission::Write(10),
        name: KeyName::new("phone").unwrap(),
        device,
        nonce: [1; 16],
    };
    request.sign(&key(9)).unwrap()
}

#[test]
fn discovery_shows_what_each_key_may_read_within_its_scope() {
    // The key 8 may read 1, 2 and 3; the key 9 may read 2, 3 and 4.
    let readable = |keys: &[PublicKey]| {
        let by = |who: u8, ids: [u8; 3]| {
            if keys.contains(&key(who).public()) {
                ids.to_vec()
            } else {
                Vec::new()
            }
        };
        let found: BTreeSet<u8> = by(8, [1, 2, 3])
            .into_iter()
            .chain(by(9, [2, 3, 4]))
            .collect();
        found
            .into_iter()
            .map(|n| DatabaseInfo::new(id(n), "a name\u{202e}\u{7}", 10))
            .collect::<Vec<_>>()
    };
    let shown = |claims: &[DeviceClaim]| {
        let (frames, _) =
            respond(
                claims,
                &Frame::Request(Request::Discover),
                &mut |query| match query {
                    Query::Discover { keys } => Answer::Databases(readable(&keys)),
                    query => panic!("{query:?}"),
                },
            );
        let Ok(CallReply::Databases(found, false)) = call(Call::discover(), &frames) else {
            panic!()
        };
        assert!(found.iter().all(|info| info.name() == "a name??"));
        found
            .iter()
            .map(|info| info.id().as_bytes()[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), Vec::<u8>::new());
    assert_eq!(shown(&[claim(8, Scope::All)]), [1, 2, 3]);
    assert_eq!(
        shown(&[claim(8, Scope::Databases(vec![id(1), id(4)]))]),
        [1]
    );
    let both = [
        claim(8, Scope::Databases(vec![id(1), id(4)])),
        claim(9, Scope::Databases(vec![id(1), id(4)])),
    ];
    assert_eq!(shown(&both), [1, 4]);
}

#[test]
fn a_long_list_of_databases_is_cut_and_says_so() {
    for (count, more) in [(limits::DATABASES, false), (limits::DATABASES + 1, true)] {
        let (frames, _) = respond(&[], &Frame::Request(Request::Discover), &mut |_| {
            let infos = (0..count as u64).map(|n| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&n.to_be_bytes());
                DatabaseInfo::new(Id::new(bytes), &"n".repeat(1000), n)
            });
            Answer::Databases(infos.collect())
        });
        let Ok(CallReply::Databases(found, cut)) = call(Call::discover(), &frames) else {
            panic!()
        };
        assert_eq!((found.len(), cut), (limits::DATABASES, more));
    }
}

#[test]
fn bootstrap_requests_are_proven_and_from_the_device_that_sends_them() {
    let own = signed(key(1).public());
    for (answer, reply) in [
        (BootstrapAnswer::Granted, BootstrapAnswer::Granted),
        (
            BootstrapAnswer::Pending(own.id()),
            BootstrapAnswer::Pending(own.id()),
        ),
        (BootstrapAnswer::Denied, BootstrapAnswer::Denied),
    ] {
        let request = Frame::Request(Request::Bootstrap {
            request: own.encode().into(),
        });
        let (frames, _) = respond(&[], &request, &mut |query| match query {
            Query::Bootstrap { request } => {
                assert_eq!(*request, own);
                Answer::Bootstrap(answer)
            }
            query => panic!("{query:?}"),
        });
        assert_eq!(
            call(Call::bootstrap(&own), &frames),
            Ok(CallReply::Bootstrap(reply))
        );
    }
    let other = signed(key(3).public());
    let mut edited = own.encode();
    edited[70] ^= 1;
    for bytes in [other.encode(), edited, vec![], vec![0; 64]] {
        let request = Frame::Request(Request::Bootstrap {
            request: bytes.into(),
        });
        let (frames, _) = respond(&[], &request, &mut |query| panic!("{query:?}"));
        assert_eq!(replies(&frames), [Reply::Refused(Refusal::NOT_PROVEN)]);
    }
}

#[test]
fn a_requests_fate_is_for_its_own_key_only() {
    let asked = RequestRef {
        database: id(1),
        key: key(9).public(),
        id: RequestId::new([5; 32]),
    };
    for frame in [
        Frame::Request(Request::Status(asked.clone())),
        Frame::Request(Request::Cancel(asked.clone())),
    ] {
        for claims in [
            vec![],
            vec![claim(8, Scope::All)],
            vec![claim(9, Scope::Databases(vec![id(2)]))],
        ] {
            let (frames, _) = respond(&claims, &frame, &mut |query| panic!("{query:?}"));
            assert_eq!(replies(&frames), [Reply::Refused(Refusal::ABSENT)]);
        }
    }
    let own = [claim(9, Scope::Databases(vec![id(1)]))];
    let mut answer = |query| match query {
        Query::Status { request, device } => {
            assert_eq!((request, device), (asked.clone(), key(1).public()));
            Answer::Bootstrap(BootstrapAnswer::Pending(asked.id))
        }
        Query::Cancel { request, device } => {
            assert_eq!((request, device), (asked.clone(), key(1).public()));
            Answer::Cancelled
        }
        query => panic!("{query:?}"),
    };
    let (frames, _) = respond(
        &own,
        &Frame::Request(Request::Status(asked.clone())),
        &mut answer,
    );
    let pending = CallReply::Bootstrap(BootstrapAnswer::Pending(asked.id));
    assert_eq!(call(Call::status(asked.clone()), &frames), Ok(pending));
    let (frames, _) = respond(
        &own,
        &Frame::Request(Request::Cancel(asked.clone())),
        &mut answer,
    );
    assert_eq!(
        call(Call::cancel(asked.clone()), &frames),
        Ok(CallReply::Cancelled)
    );
}

#[test]
fn other_answers_to_a_call_are_refused() {
    let equal = Frame::Reply(Reply::Equal).encode().unwrap();
    let twice = [equal.clone(), equal.clone()];
    for response in [
        &[][..],
        &[equal][..],
        &twice[..],
        &[Bytes::from_static(b"\x02")][..],
    ] {
        assert!(matches!(
            call(Call::discover(), response),
            Err(Failure::Peer(_))
        ));
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for bytes in [
        vec![],
        vec![0x09],
        vec![0x01, 0xff],
        Frame::Reply(Reply::Equal).encode().unwrap().to_vec(),
    ] {
        let peer = shake(&key(1), &key(2), &[]).unwrap().proven;
        let mut machine = Responder::new(ResponderConfig {
            peer,
            claims: Vec::new(),
        });
        machine.handle_input(Input::Frame(bytes.into()), NOW);
        let Output::Send(frame) = machine.poll_output(NOW) else {
            panic!()
        };
        assert_eq!(replies(&[frame]), [Reply::Refused(Refusal::MALFORMED)]);
        assert!(matches!(machine.poll_output(NOW), Output::End));
        assert!(matches!(
            machine.poll_output(NOW),
            Output::Done(Err(Failure::Peer(_)))
        ));
    }
}
