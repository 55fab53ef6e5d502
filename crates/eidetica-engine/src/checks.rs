//! What builds for tests look at after each input: that nothing was missed which a walk over everything would find.

use crate::{Engine, links::DialTarget};

/// With more than so much there is no walk: it would cost more than what it looks at.
const FEW: usize = 64;

impl Engine {
    /// Whether what is kept up to date with each change is what there is.
    pub(crate) fn is_in_order(&self) -> bool {
        let is_small = self.peers.all().nth(FEW).is_none()
            && self.peers.pairs().nth(FEW).is_none()
            && self.work.ready.len() <= FEW;
        !is_small || self.stopped || (self.wants_what_is_live() && self.waits_for_a_reason())
    }

    /// Peers are to tell of what is synced with them at once, and their streams are about that.
    fn wants_what_is_live(&self) -> bool {
        self.peers.all().map(|peer| peer.pubkey).all(|peer| {
            let is_live = |id: &eidetica_entry::Id| self.wishes(id).is_live();
            let live: Vec<_> = self.related(&peer).into_iter().filter(is_live).collect();
            let stream = self.streams.dialled(&peer);
            self.streams.wanted(&peer) == live
                && stream.is_none_or(|(_, stream)| stream.databases.keys().eq(&live))
        })
    }

    /// What is ready waits for a dial, for its like to end, or for room.
    fn waits_for_a_reason(&self) -> bool {
        self.work.ready.peers().all(|peer| {
            let ready = &self.work.ready;
            let is_like = |kind| self.running(peer, kind).is_some();
            ready.behind(peer).all(is_like)
                && match self.links.of_peer(peer) {
                    None => {
                        !ready.wants_connection(peer)
                            || self.links.is_dialling(&DialTarget::Peer(*peer))
                    }
                    Some(link) => {
                        !ready.wants_connection(peer)
                            || !self.links.has_room(link)
                            || !self.has_room_for(peer)
                    }
                }
        })
    }
}
