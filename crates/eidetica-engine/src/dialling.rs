//! Reaching peers, one address after the other.

use std::collections::VecDeque;

use eidetica_entry::PublicKey;
use eidetica_protocol::{CloseReason, PeerIdentity};
use eidetica_transport::Address;

use crate::{
    Action, ConnectError, Engine, EngineError, LinkId, PeerStatus,
    links::{Dial, DialTarget},
    streams::Stream,
    work::{Unit, Want},
};

impl Engine {
    pub(crate) fn check_peer(&self, key: &PublicKey) -> Result<(), EngineError> {
        match self.peers.get(key) {
            None => Err(EngineError::UnknownPeer(*key)),
            Some(peer) if peer.status == PeerStatus::Blocked => Err(EngineError::Blocked(*key)),
            Some(peer) if peer.addresses.is_empty() && self.links.of_peer(key).is_none() => {
                Err(EngineError::NoAddress(*key))
            }
            Some(_) => Ok(()),
        }
    }

    /// An address always means a look at who is there, unless that dial is under way already.
    pub(crate) fn want_address(&mut self, want: Want, address: Address) {
        let target = DialTarget::Address(address.clone());
        if let Some(dial) = self.links.dial(&target) {
            dial.wants.push(want);
            return;
        }
        let link = self.links.new_id();
        let pinned = address.key().copied();
        self.actions
            .push_back(Action::Connect(link, address.clone(), pinned));
        self.links.start_dial(
            target,
            Dial {
                link,
                address,
                rest: VecDeque::new(),
                wants: vec![want],
            },
        );
    }

    pub(crate) fn dial_for(&mut self, unit: Unit, now_ms: u64) {
        let target = DialTarget::Peer(unit.peer);
        if self.links.dial(&target).is_some() {
            return self.work.ready.push_back(unit);
        }
        if let Err(error) = self.check_peer(&unit.peer) {
            return self.fail_unit(unit, &error, now_ms);
        }
        let mut rest: VecDeque<Address> = self
            .peers
            .get(&unit.peer)
            .map(|peer| peer.addresses.iter().cloned().collect())
            .unwrap_or_default();
        if let Some(address) = rest.pop_front() {
            let link = self.links.new_id();
            self.actions
                .push_back(Action::Connect(link, address.clone(), Some(unit.peer)));
            self.links.start_dial(
                target,
                Dial {
                    link,
                    address,
                    rest,
                    wants: Vec::new(),
                },
            );
            self.work.ready.push_back(unit);
        }
    }

    pub(crate) fn handle_connected(&mut self, link: LinkId, identity: &PeerIdentity, now_ms: u64) {
        let Some((target, dial)) = self.links.take_dial(link) else {
            return self.actions.push_back(Action::Close(link));
        };
        let device = identity.device;
        let wrong = matches!(target, DialTarget::Peer(key) if key != device);
        let pinned = dial.address.key().is_some_and(|key| *key != device);
        if wrong || pinned {
            self.actions.push_back(Action::Close(link));
            let error = ConnectError {
                text: format!("the peer has the key {device}"),
                peer_fault: true,
            };
            return self.next_address(target, dial, &error, now_ms);
        }
        match self.welcome(&device, &dial.address, now_ms) {
            Ok(()) => {
                if self.links.live_of_peer(&device).is_some() {
                    // The connection that news come on is as good, and already in use.
                    self.actions.push_back(Action::Close(link));
                } else {
                    let replaced = self.links.open(link, device, now_ms);
                    self.actions.extend(replaced.map(Action::Close));
                }
                for want in dial.wants {
                    self.begin(want, device, now_ms);
                }
                self.keep_live(&device, now_ms);
            }
            Err(error) => {
                self.actions.push_back(Action::Close(link));
                for want in dial.wants {
                    self.reply(want.command, Err(error.clone()));
                }
                self.fail_ready_of(&device, &error, now_ms);
            }
        }
    }

    pub(crate) fn welcome(
        &mut self,
        device: &PublicKey,
        address: &Address,
        now_ms: u64,
    ) -> Result<(), EngineError> {
        if !self.admits(device) {
            return Err(EngineError::Blocked(*device));
        }
        self.peers.register(*device, None)?;
        // With too many addresses the new one is not remembered: the others still lead there.
        let _known_enough = self.peers.add_address(device, address);
        self.peers.seen(device, now_ms);
        Ok(())
    }

    pub(crate) fn handle_connect_failed(
        &mut self,
        link: LinkId,
        error: &ConnectError,
        now_ms: u64,
    ) {
        if let Some((target, dial)) = self.links.take_dial(link) {
            self.next_address(target, dial, error, now_ms);
        }
    }

    pub(crate) fn next_address(
        &mut self,
        target: DialTarget,
        mut dial: Dial,
        error: &ConnectError,
        now_ms: u64,
    ) {
        if let Some(address) = dial.rest.pop_front() {
            let link = self.links.new_id();
            let pinned = match &target {
                DialTarget::Peer(key) => Some(*key),
                DialTarget::Address(address) => address.key().copied(),
            };
            self.actions
                .push_back(Action::Connect(link, address.clone(), pinned));
            return self.links.start_dial(
                target,
                Dial {
                    link,
                    address,
                    ..dial
                },
            );
        }
        let error = EngineError::Connect(error.clone());
        for want in dial.wants {
            self.reply(want.command, Err(error.clone()));
        }
        if let DialTarget::Peer(peer) = target {
            self.fail_ready_of(&peer, &error, now_ms);
        }
    }

    /// Fails all work that waits for a peer.
    pub(crate) fn fail_ready_of(&mut self, peer: &PublicKey, error: &EngineError, now_ms: u64) {
        for unit in std::mem::take(&mut self.work.ready) {
            if unit.peer == *peer {
                self.fail_unit(unit, error, now_ms);
            } else {
                self.work.ready.push_back(unit);
            }
        }
    }

    /// A connection is gone, and the live stream on it with it.
    pub(crate) fn handle_disconnected(&mut self, link: LinkId, now_ms: u64) {
        self.links.remove(link);
        let on_it = |stream: &Stream| stream.link == Some(link);
        let found = self.streams.all().find(|(_, stream)| on_it(stream));
        let Some((id, peer)) = found.map(|(id, stream)| (*id, stream.peer)) else {
            return;
        };
        self.end_stream(id);
        self.connect_later(&peer, CloseReason::Cut.to_string(), now_ms);
    }
}
