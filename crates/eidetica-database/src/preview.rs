//! What a revocation would do, before it is made, and how one that was wrong is corrected.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, Revocation, SettingsPayload, SettingsWrite};
use eidetica_entry::{Draft, Id, Ids, PublicKey, Stamp, StoreName};
use eidetica_storage::log::{LogReader, Mark};

use crate::commit::{admitted, not_below};
use crate::error::{Error, Reject, Result};
use crate::known::{Known, New};
use crate::standing::{Standings, advance};
use crate::{Database, limits};

/// What a revocation would change among the entries that are here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationPreview {
    /// How many entries would become void, of whomever: what somebody else did with a right that came from
    /// the key falls with it.
    pub voided: u64,
    /// How many void entries would count again, where the revocation replaces others.
    pub restored: u64,
    /// The first of both, by ascending stamp.
    pub entries: Vec<PreviewEntry>,
}

/// An entry that a revocation would change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviewEntry {
    /// The entry.
    pub stamp: Stamp,
    /// Who signed it.
    pub author: PublicKey,
    /// When it was made, by its author's word, in milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// Whether it writes settings.
    pub writes_settings: bool,
    /// Whether it would become void; else it would count again.
    pub voided: bool,
}

impl Database {
    /// What would become void or count again if the database's key revoked so now; nothing is written. At
    /// most `limit` and [`limits::PAGE_ROWS`] entries are listed. Costs the entries outside of the cut.
    ///
    /// With the default cut that is nothing: it takes only what arrives later.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::NoEntry`] for what it names, [`Error::Refused`].
    pub fn preview_revocation(
        &self,
        revocation: &Revocation,
        limit: usize,
    ) -> Result<RevocationPreview> {
        let author = self.key().ok_or(Error::NoKey)?.public();
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        let mut known = Known::new(self.shared(), self.id(), &reader);
        let draft = self.draft_of(revocation, author, &known)?;
        let payload =
            SettingsPayload::new(vec![AuthRecord::Revoke(revocation.clone())], Bytes::new())?;
        let authority = &self.core().authority;
        let verdict =
            authority.judge(draft.id(), draft.header(), Some(&payload.encode()), &known)?;
        let settings = admitted(verdict)?.settings;
        let SettingsWrite { after, .. } = settings.ok_or(Error::Refused(Reject::Settings))?;
        let present: Ids = reader.state()?.settings.iter().copied().collect();
        let before = authority.at(&present, &known)?;
        let next = advance(&present, draft.id(), draft.header());
        known.add(draft.id(), New::Draft(Box::new(draft)));
        let state = before.join(&after);
        let changes = state.changes_since(&before);
        let standings = Standings::under(authority, &known, next, state);
        let marks = reader.marks(Mark::Void)?;
        let flips = standings.flips(&changes, |arrival| marks.contains(arrival))?;
        let voided = flips.iter().filter(|flip| flip.void).count() as u64;
        let mut preview = RevocationPreview {
            voided,
            restored: flips.len() as u64 - voided,
            entries: Vec::new(),
        };
        for flip in flips.iter().take(limit.clamp(1, limits::PAGE_ROWS)) {
            let entry = reader.at(flip.arrival)?;
            preview.entries.push(PreviewEntry {
                stamp: entry.stamp(),
                author: flip.author,
                timestamp_ms: entry.header().timestamp_ms,
                writes_settings: entry.header().writes_settings(),
                voided: flip.void,
            });
        }
        preview.entries.sort_unstable_by_key(|entry| entry.stamp);
        Ok(preview)
    }

    /// The entry that would revoke, on top of the tips and of what it names.
    fn draft_of(
        &self,
        revocation: &Revocation,
        author: PublicKey,
        known: &Known<'_>,
    ) -> Result<Draft> {
        let infos = |ids: &[Id]| {
            ids.iter()
                .map(|id| known.info(id))
                .collect::<Result<Vec<_>>>()
        };
        let tips = known.reader.state()?.tips;
        let tips: Vec<Id> = tips.iter().map(|tip| tip.id).collect();
        let named = revocation.cut.iter().flat_map(|cut| cut.iter());
        let named: Ids = named.chain(revocation.replaces.iter()).copied().collect();
        let named = infos(&named)?;
        let mut parents = infos(&tips)?;
        let above = not_below(&parents, named, known.reader)?;
        let (parents, settings) = self.core().fit(&mut parents, &above, known.reader)?;
        let record = AuthRecord::Revoke(revocation.clone());
        let payload = SettingsPayload::new(vec![record], Bytes::new())?;
        let payloads = BTreeMap::from([(StoreName::settings(), payload.encode())]);
        Ok(Draft::child(
            self.id(),
            &parents,
            settings,
            payloads,
            author,
            None,
        )?)
    }

    /// A revocation that stands for all of a key that hold, and leaves everything that is here as it would
    /// be without them: what the key did until now counts, what it does from now on does not. Change its
    /// [`cut`](Revocation::cut) for another limit, preview it, and commit it with
    /// [`SettingsStore::revoke`](crate::SettingsStore::revoke); a grant after it lets the key go on.
    /// `None` where no revocation of the key holds.
    ///
    /// # Errors
    /// More void entries without others of the key above them than a cut can name; the engine's.
    pub fn correction_of(&self, key: &PublicKey) -> Result<Option<Revocation>> {
        let state = self.authority()?;
        let (mut replaces, mut left) = (Vec::new(), Vec::new());
        for (id, revocation) in state.revocations(key) {
            replaces.push(id);
            left.push(revocation.to);
        }
        let Some(to) = left.into_iter().min() else {
            return Ok(None);
        };
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        Ok(Some(Revocation {
            to,
            cut: Some(self.all_by(key, &reader)?),
            replaces: replaces.into_iter().collect(),
            ..Revocation::of(*key)
        }))
    }

    /// Of some entries, the maximal ones among those that are in the past of none of `ends`; of the tips for
    /// `None`.
    pub(crate) fn not_below(&self, ids: &[Id], ends: Option<&[Id]>) -> Result<Vec<Id>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let snapshot = self.shared().rows.snapshot()?;
        let reader = self.core().log.reader(&*snapshot);
        for (id, located) in ids.iter().zip(reader.locate(ids)?) {
            located.ok_or(Error::NoEntry(*id))?;
        }
        let ends: Vec<Id> = match ends {
            Some(ends) => ends.to_vec(),
            None => reader.state()?.tips.iter().map(|tip| tip.id).collect(),
        };
        let known = Known::new(self.shared(), self.id(), &reader);
        let maximal = known.maximal(&[ids, &ends].concat())?;
        Ok(maximal
            .iter()
            .filter(|id| !ends.contains(id))
            .copied()
            .collect())
    }

    /// Entries that have everything of a key in their past: the tips, and void entries of the key.
    fn all_by(&self, key: &PublicKey, reader: &LogReader<'_>) -> Result<Ids> {
        let mut ends: Vec<Id> = reader.state()?.tips.iter().map(|tip| tip.id).collect();
        for arrival in reader.marks(Mark::Void)?.iter() {
            let entry = reader.at(arrival)?;
            if entry.header().author.key == *key {
                ends.push(entry.id());
            }
        }
        Known::new(self.shared(), self.id(), reader).maximal(&ends)
    }
}
