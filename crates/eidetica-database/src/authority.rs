//! Who may do what, at any frontier of settings entries.
//!
//! The rules are `eidetica_auth`; here is the walk that brings them the state they judge by. A state is a
//! pure function of content-addressed bytes, so the caches never go stale.

use std::collections::HashMap;
use std::sync::Arc;

use eidetica_auth::{AuthState, Lookup, SettingsWrite, Sound, Verdict, judge};
use eidetica_entry::{Entry, Header, Id, Ids, StoreName};
use quick_cache::sync::Cache;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::known::Known;
use crate::limits;
use crate::shared::Shared;

/// Where settings entries are looked up: stored ones, and those of the pack that is being judged.
pub(crate) trait SettingsSource: Lookup<Error = Error> {
    /// The entry with this id; it is known to have been judged sound.
    fn settings_entry(&self, id: &Id) -> Result<Option<Entry>>;
}

/// The authority states of one database.
pub(crate) struct Authority {
    after: Cache<Id, AuthState>,
    at: Cache<Ids, AuthState>,
}

impl Default for Authority {
    fn default() -> Self {
        Self {
            after: Cache::new(limits::AUTHORITY_CACHE),
            at: Cache::new(limits::AUTHORITY_CACHE),
        }
    }
}

impl Authority {
    /// The state at the frontier `settings`. O(1) when cached, else O(settings entries below it that
    /// are not).
    pub(crate) fn at<S: SettingsSource>(&self, settings: &Ids, source: &S) -> Result<AuthState> {
        if let Some(state) = self.at.get(settings) {
            return Ok(state);
        }
        let state = Walk {
            authority: self,
            source,
            found: HashMap::new(),
        }
        .at(settings)?;
        self.at.insert(settings.clone(), state.clone());
        Ok(state)
    }

    /// Judges an entry whose height and settings are the derived ones, by its own past alone.
    pub(crate) fn judge<S: SettingsSource>(
        &self,
        id: Id,
        header: &Header,
        settings_payload: Option<&[u8]>,
        source: &S,
    ) -> Result<Verdict> {
        let state = self.at(&header.settings, source)?;
        let verdict = judge(header, id, settings_payload, &state, source)?;
        if let Verdict::Sound(Sound {
            settings: Some(SettingsWrite { after, .. }),
            ..
        }) = &verdict
        {
            self.after.insert(id, after.clone());
        }
        Ok(verdict)
    }
}

/// One walk down the settings history: iterative, each entry judged once.
struct Walk<'a, S> {
    authority: &'a Authority,
    source: &'a S,
    /// What this walk needs again, so that it ends whatever the bounded cache forgets.
    found: HashMap<Id, AuthState>,
}

impl<S: SettingsSource> Walk<'_, S> {
    fn at(&mut self, settings: &Ids) -> Result<AuthState> {
        let mut open: Vec<Id> = settings.to_vec();
        while let Some(id) = open.last().copied() {
            if self.lookup(&id) {
                open.pop();
                continue;
            }
            let entry = self
                .source
                .settings_entry(&id)?
                .ok_or_else(|| damaged(&id, "is missing"))?;
            let below: Vec<Id> = entry
                .header()
                .settings
                .iter()
                .filter(|pin| !self.lookup(pin))
                .copied()
                .collect();
            if below.is_empty() {
                self.add(&entry)?;
                open.pop();
            }
            open.extend(below);
        }
        Ok(self.join(settings))
    }

    fn lookup(&mut self, id: &Id) -> bool {
        if self.found.contains_key(id) {
            return true;
        }
        let Some(state) = self.authority.after.get(id) else {
            return false;
        };
        self.found.insert(*id, state);
        true
    }

    fn join(&self, settings: &Ids) -> AuthState {
        let states = settings.iter().filter_map(|pin| self.found.get(pin));
        states
            .fold(None::<AuthState>, |joined, state| {
                Some(joined.map_or_else(|| state.clone(), |joined| joined.join(state)))
            })
            .unwrap_or_default()
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        let state = self.join(&entry.header().settings);
        let payload = entry.payload(&StoreName::settings()).map(AsRef::as_ref);
        match judge(entry.header(), entry.id(), payload, &state, self.source)? {
            Verdict::Sound(Sound {
                settings: Some(SettingsWrite { after, .. }),
                ..
            }) => {
                self.authority.after.insert(entry.id(), after.clone());
                self.found.insert(entry.id(), after);
                Ok(())
            }
            _ => Err(damaged(&entry.id(), "was stored and is not sound")),
        }
    }
}

impl Core {
    /// Who may do what at these entries; `None` while one of them is not in the engine.
    pub(crate) fn authority_at(
        &self,
        shared: &Arc<Shared>,
        tips: &[Id],
        nesting: usize,
    ) -> Result<Option<AuthState>> {
        let snapshot = self.log.engine().snapshot()?;
        let reader = self.log.reader(&*snapshot);
        let infos: Option<Vec<_>> = reader.parent_infos(tips)?.into_iter().collect();
        let Some(infos) = infos else {
            return Ok(None);
        };
        let settings = self.derive_settings(&infos, &reader)?;
        let known = Known::nested(shared, self.id, &reader, nesting);
        self.authority.at(&settings, &known).map(Some)
    }
}

fn damaged(id: &Id, what: &str) -> Error {
    Error::Corrupt(format!("settings entry {id} {what}"))
}
