//! What other processes of the instance have written.

use eidetica_entry::{Id, PublicKey};

use crate::{
    Engine, EngineError, PeerStatus, Record, RestoreError,
    record::{self, Kind},
};

impl Engine {
    /// Takes records that stand otherwise than this process knows: another one has written them. Its own are not
    /// among them: see [`Record::is_shared`]. Call it when there is nothing to persist.
    ///
    /// # Errors
    /// A record that does not decode or is newer than this version; those before it are taken.
    pub fn meet(&mut self, records: &[Record], now_ms: u64) -> Result<(), RestoreError> {
        // Pairs are of peers.
        let is_peer =
            |record: &&Record| Kind::split(&record.key).map(|split| split.0) == Some(Kind::Peer);
        let (peers, others): (Vec<&Record>, Vec<&Record>) = records.iter().partition(is_peer);
        for Record { key, value } in peers.into_iter().chain(others) {
            let corrupt = || RestoreError::Corrupt { key: key.clone() };
            let (kind, rest) = Kind::split(key).ok_or_else(corrupt)?;
            let value = value.as_deref();
            match kind {
                Kind::Peer => {
                    let peer = record::parse_key(rest).ok_or_else(corrupt)?;
                    self.meet_peer(peer, key, value, now_ms)?;
                }
                Kind::Pair => {
                    let pair = record::parse_pair(rest).ok_or_else(corrupt)?;
                    self.meet_pair(pair, key, value, now_ms)?;
                }
                Kind::Incoming => {
                    let id = rest.parse().map_err(|_| corrupt())?;
                    if self.requests.meet(&id, key, value)? {
                        self.tell_decided(&id);
                    }
                }
                Kind::Invite => {
                    let invite = record::parse_key(rest).ok_or_else(corrupt)?;
                    self.invites.meet(invite, key, value)?;
                }
                Kind::Stats | Kind::History | Kind::Cursor | Kind::Outgoing | Kind::Claim => {}
            }
        }
        self.beat(now_ms);
        self.pump(now_ms);
        Ok(())
    }

    fn meet_peer(
        &mut self,
        peer: PublicKey,
        key: &str,
        value: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<(), RestoreError> {
        let Some(value) = value else {
            self.hang_up(&peer, &EngineError::UnknownPeer(peer), now_ms);
            self.work.forget_peer(&peer);
            self.peers.meet_removed(&peer);
            self.streams.want_none(&peer);
            self.keep_live(&peer, now_ms);
            return Ok(());
        };
        let before = self.peers.get(&peer).map(|info| info.status);
        self.peers.restore(Kind::Peer, key_rest(key), key, value)?;
        let after = self.peers.get(&peer).map(|info| info.status);
        if before != after {
            match after {
                Some(PeerStatus::Blocked) => {
                    self.hang_up(&peer, &EngineError::Blocked(peer), now_ms);
                }
                Some(PeerStatus::Active) => self.wake_queued(&peer, now_ms),
                _ => {}
            }
        }
        self.keep_live(&peer, now_ms);
        Ok(())
    }

    fn meet_pair(
        &mut self,
        pair: (PublicKey, Id),
        key: &str,
        value: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<(), RestoreError> {
        let (peer, database) = pair;
        let Some(value) = value else {
            self.peers.meet_unpaired(&pair);
            self.keep_live_of(&peer, database, now_ms);
            return Ok(());
        };
        self.peers.restore(Kind::Pair, key_rest(key), key, value)?;
        let found = self.peers.pair(&peer, &database);
        let (related, queued) = found.map_or((false, false), |pair| (pair.related, pair.queued));
        match related {
            true => self.begin_relation(&peer, database, now_ms),
            false => self.keep_live_of(&peer, database, now_ms),
        }
        if queued {
            self.want_lease(&peer, now_ms);
            self.run_queued(peer, database, now_ms);
        }
        Ok(())
    }
}

fn key_rest(key: &str) -> &str {
    Kind::split(key).map_or("", |(_, rest)| rest)
}
