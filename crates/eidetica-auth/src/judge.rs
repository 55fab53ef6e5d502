//! The one function that judges entries, on every path they come by: commit, push, pull, bootstrap,
//! import and load. A verdict is a function of bytes alone: no clock, no order of arrival, no
//! comparison of ids.
//!
//! It judges on the entry's own past alone. What entries outside that past take away later makes an
//! entry void, never rejected: see [`AuthState::standing`].

use std::{collections::BTreeMap, sync::Arc};

use eidetica_entry::{Header, Id, Ids, PublicKey};

use crate::{
    delegation::{Pinned, Pins},
    key::{KeyError, check_public_key},
    limits,
    lookup::{Below, Lookup, Missing},
    permission::{Permission, Right},
    record::{AuthRecord, Delegation, Revocation, SettingsError, SettingsPayload},
    state::{AuthState, Control},
};

/// What is to be thought of an entry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verdict {
    /// Its author had the right to make it.
    Sound(Sound),
    /// It must never be stored, and nothing may build on it.
    Reject(Reject),
    /// Something that decides is not at hand: fetch it and judge again.
    Pending(Missing),
}

/// A sound entry.
#[derive(Debug, Clone)]
pub struct Sound {
    /// The strongest right that its author had there.
    pub strength: Right,
    /// What it says in `_settings`, and the state after it, if it writes there.
    pub settings: Option<SettingsWrite>,
}

/// The settings part of a sound entry.
#[derive(Debug, Clone)]
pub struct SettingsWrite {
    /// The decoded payload.
    pub payload: SettingsPayload,
    /// The rights that hold at this entry.
    pub after: AuthState,
}

/// Why an entry is rejected. Its author is to blame, and so is a peer that passes it on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The author's key is none.
    #[error("the author's key is {0}")]
    AuthorKey(KeyError),
    /// The author has no right in this database.
    #[error("{0} has no right in this database")]
    NoRight(PublicKey),
    /// Data need `Write`.
    #[error("writing data needs Write, {key} has {right}")]
    NeedsWrite {
        /// The author.
        key: PublicKey,
        /// What it has.
        right: Right,
    },
    /// Settings need `Admin`.
    #[error("writing settings needs Admin, {key} has {right}")]
    NeedsAdmin {
        /// The author.
        key: PublicKey,
        /// What it has.
        right: Right,
    },
    /// A right as strong as the author's own, or stronger.
    #[error("an author with {author} grants {granted}")]
    GrantTooStrong {
        /// What the author has.
        author: Right,
        /// What it grants.
        granted: Right,
    },
    /// A root entry without settings.
    #[error("a root entry without settings")]
    RootWithoutSettings,
    /// A malformed `_settings` payload.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A right by way of a database that is not delegated to.
    #[error("{database} is not delegated to")]
    NotDelegated {
        /// The other database.
        database: Id,
    },
    /// A delegation that leads to a database twice, or back to its own.
    #[error("a delegation leads to {database} again")]
    DelegationLoop {
        /// The database.
        database: Id,
    },
    /// A delegated right, pinned at less than a setting below the entry asks for.
    #[error("what is pinned of {database} lies behind the floor")]
    BehindFloor {
        /// The other database.
        database: Id,
    },
    /// A setting of a delegation whose floor does not cover the floors below it.
    #[error("the new floor of {database} does not cover the older ones")]
    FloorNotForward {
        /// The other database.
        database: Id,
    },
    /// A delegation bounded by a right that its author may not give.
    #[error("an author with {author} delegates up to {bound}")]
    BoundTooStrong {
        /// What the author has.
        author: Right,
        /// The bound.
        bound: Permission,
    },
    /// A record names an entry that is not in its past.
    #[error("{id} is named and is not below")]
    NotBelow {
        /// The named entry.
        id: Id,
    },
    /// An adoption of an entry that writes settings.
    #[error("{id} is adopted and writes settings")]
    AdoptsSettings {
        /// The adopted entry.
        id: Id,
    },
    /// A replaced entry is no revocation of the key, or a stronger one.
    #[error("{id} is replaced and is no revocation of the key, or a stronger one")]
    CannotReplace {
        /// The named entry.
        id: Id,
    },
    /// A root with other records than grants, the wildcard and delegations.
    #[error("a root that takes or adopts")]
    RecordInRoot,
    /// Renouncing or rotating by a delegated right.
    #[error("a delegated right cannot be renounced or rotated")]
    DelegatedRenounce,
    /// Renouncing or rotating without a right of one's own.
    #[error("{0} has no right of its own to renounce or rotate")]
    NoRightOfItsOwn(PublicKey),
    /// A rotation to the key that rotates.
    #[error("a rotation of a key to itself")]
    RotatesToItself,
    /// Databases follow from each other's floors and pins more than [`limits::DELEGATION_DEPTH`] deep.
    #[error("more than {} floors follow from each other", limits::DELEGATION_DEPTH)]
    DelegatesTooDeep,
}

impl Reject {
    /// The reason as a number, for the wire. Numbers are never reused.
    pub fn code(&self) -> u16 {
        match self {
            Self::AuthorKey(_) => 1,
            Self::NoRight(_) => 2,
            Self::NeedsWrite { .. } => 3,
            Self::NeedsAdmin { .. } => 4,
            Self::GrantTooStrong { .. } => 5,
            Self::RootWithoutSettings => 6,
            Self::Settings(_) => 7,
            Self::NotDelegated { .. } => 9,
            Self::DelegationLoop { .. } => 10,
            Self::BehindFloor { .. } => 11,
            Self::FloorNotForward { .. } => 12,
            Self::BoundTooStrong { .. } => 13,
            Self::NotBelow { .. } => 14,
            Self::AdoptsSettings { .. } => 15,
            Self::CannotReplace { .. } => 16,
            Self::RecordInRoot => 17,
            Self::DelegatedRenounce => 18,
            Self::NoRightOfItsOwn(_) => 19,
            Self::RotatesToItself => 20,
            Self::DelegatesTooDeep => 21,
        }
    }
}

/// Judges the entry `id` with this header. `settings` are the bytes of its `_settings` payload,
/// where it writes there and they are at hand; `state` is the state at `header.settings`, for a
/// root entry the default one.
///
/// The caller has checked what does not need authority: that the bytes decode and give this id,
/// that the signature [verifies](crate::verify), that payloads fit their hashes, and that height
/// and settings are the derived ones.
///
/// O(log n) for an entry without settings and delegation, O(records x log n) for one with settings;
/// see the rules' own module for what explicit cuts cost.
///
/// # Errors
/// The lookup's.
pub fn judge<L: Lookup>(
    header: &Header,
    id: Id,
    settings: Option<&[u8]>,
    state: &AuthState,
    lookup: &L,
) -> Result<Verdict, L::Error> {
    if header.writes_settings() && settings.is_none() {
        return Ok(Verdict::Pending(Missing::Settings));
    }
    let none = AuthState::default();
    let examination = Examination {
        header,
        id,
        state: if header.is_root() { &none } else { state },
        lookup,
    };
    let settings = settings.filter(|_| header.writes_settings());
    Ok(match examination.run(settings) {
        Ok(sound) => Verdict::Sound(sound),
        Err(Stop::Reject(reason)) => Verdict::Reject(reason),
        Err(Stop::Missing(missing)) => Verdict::Pending(missing),
        Err(Stop::Lookup(error)) => return Err(error),
    })
}

/// What ends an examination early.
enum Stop<E> {
    Reject(Reject),
    Missing(Missing),
    Lookup(E),
}

impl<E, R: Into<Reject>> From<R> for Stop<E> {
    fn from(reason: R) -> Self {
        Self::Reject(reason.into())
    }
}

struct Examination<'a, L> {
    header: &'a Header,
    id: Id,
    state: &'a AuthState,
    lookup: &'a L,
}

impl<L: Lookup> Examination<'_, L> {
    fn run(&self, settings: Option<&[u8]>) -> Result<Sound, Stop<L::Error>> {
        let key = self.header.author.key;
        // A key with a right of its own was checked where the grant was decoded: most entries need no
        // curve arithmetic here.
        if self.state.explicit_right_of(&key).is_none() {
            check_public_key(&key).map_err(Reject::AuthorKey)?;
        }
        let payload = settings.map(SettingsPayload::decode).transpose()?;
        let pinned = self.pinned()?;
        match payload {
            None if self.header.is_root() => Err(Reject::RootWithoutSettings.into()),
            None => Ok(Sound {
                strength: self.data_strength(pinned.as_ref())?,
                settings: None,
            }),
            Some(payload) => self.settings(payload, pinned),
        }
    }

    /// What the delegation chain pins.
    fn pinned(&self) -> Result<Option<Pinned>, Stop<L::Error>> {
        let via = &self.header.author.via;
        let own = std::iter::once(self.header.database);
        let mut seen: Vec<Id> = own.chain(via.iter().map(|via| via.database)).collect();
        seen.sort_unstable();
        if let Some([database, _]) = seen.windows(2).find(|pair| pair.first() == pair.last()) {
            let database = *database;
            return Err(Reject::DelegationLoop { database }.into());
        }
        match Pinned::read(&self.header.author, self.state, self.lookup).map_err(Stop::Lookup)? {
            Pins::None => Ok(None),
            Pins::At(pinned) => Ok(Some(pinned)),
            Pins::Missing(missing) => Err(Stop::Missing(missing)),
            Pins::Wrong(reason) => Err(reason.into()),
        }
    }

    fn right(&self, pinned: Option<&Pinned>) -> Result<Right, Reject> {
        let key = &self.header.author.key;
        let direct = self.state.right_of(key);
        let via = pinned.and_then(|pinned| self.state.right_via(key, pinned));
        direct.max(via).ok_or(Reject::NoRight(*key))
    }

    fn data_strength(&self, pinned: Option<&Pinned>) -> Result<Right, Reject> {
        let right = self.right(pinned)?;
        let key = self.header.author.key;
        match right.permission().can_write() {
            true => Ok(right),
            false => Err(Reject::NeedsWrite { key, right }),
        }
    }

    fn settings(
        &self,
        payload: SettingsPayload,
        pinned: Option<Pinned>,
    ) -> Result<Sound, Stop<L::Error>> {
        let personal = self.is_personal(&payload);
        let strength = self.settings_strength(&payload, personal, pinned.as_ref())?;
        let mut control = Control {
            id: self.id,
            key: self.header.author.key,
            parents: self.header.parents.clone(),
            pins: self.header.settings.clone(),
            past: self.state.ids().clone(),
            strength,
            records: payload.shared_records(),
            cuts: Vec::new(),
            personal,
            nesting: pinned.as_ref().map_or(0, |pinned| pinned.nesting),
            pinned: pinned.map(Arc::new),
            floors: Vec::new(),
        };
        let named = self.named(payload.records())?;
        for record in payload.records() {
            self.record(record, &named, &mut control)?;
        }
        if control.nesting > limits::DELEGATION_DEPTH {
            return Err(Reject::DelegatesTooDeep.into());
        }
        let after = self.state.extend(control);
        Ok(Sound {
            strength,
            settings: Some(SettingsWrite { payload, after }),
        })
    }

    /// Whether the entry does nothing but renounce or rotate.
    fn is_personal(&self, payload: &SettingsPayload) -> bool {
        let records = payload.records();
        !records.is_empty()
            && records.iter().all(AuthRecord::concerns_author_only)
            && payload.doc().is_empty()
            && self.header.stores.len() == 1
            && !self.header.is_root()
    }

    fn settings_strength(
        &self,
        payload: &SettingsPayload,
        personal: bool,
        pinned: Option<&Pinned>,
    ) -> Result<Right, Reject> {
        let key = self.header.author.key;
        if personal {
            let right = self.state.explicit_right_of(&key);
            return right.ok_or(Reject::NoRightOfItsOwn(key));
        }
        // A root is its own source: it may name any keys at any right, its author among them as an
        // admin.
        let right = match self.header.is_root() {
            true => payload.right_of(&key).ok_or(Reject::NoRight(key))?,
            false => self.right(pinned)?,
        };
        match right.permission().can_admin() {
            true => Ok(right),
            false => Err(Reject::NeedsAdmin { key, right }),
        }
    }

    /// Checks a record, and notes what it means.
    fn record(
        &self,
        record: &AuthRecord,
        named: &Named,
        control: &mut Control,
    ) -> Result<(), Stop<L::Error>> {
        let author = control.strength;
        let root = self.header.is_root();
        match record {
            AuthRecord::Grant { .. } if root => Ok(()),
            AuthRecord::Grant { right, .. } if author.may_give(*right) => Ok(()),
            AuthRecord::Grant { right, .. } => Err(Reject::GrantTooStrong {
                author,
                granted: *right,
            }
            .into()),
            // At most `Write` by its decoder, so weaker than any admin.
            AuthRecord::Wildcard(_) => Ok(()),
            AuthRecord::Delegate(delegation) => self.delegation(delegation, control),
            _ if root => Err(Reject::RecordInRoot.into()),
            AuthRecord::Revoke(revocation) => self.revocation(revocation, named, control),
            AuthRecord::Renounce | AuthRecord::Rotate { .. }
                if !self.header.author.via.is_empty() =>
            {
                Err(Reject::DelegatedRenounce.into())
            }
            AuthRecord::Renounce | AuthRecord::Rotate { .. }
                if self.state.explicit_right_of(&control.key).is_none() =>
            {
                Err(Reject::NoRightOfItsOwn(control.key).into())
            }
            AuthRecord::Rotate { to, .. } if *to == control.key => {
                Err(Reject::RotatesToItself.into())
            }
            AuthRecord::Renounce | AuthRecord::Rotate { .. } => Ok(()),
            AuthRecord::Adopt { entries } => Ok(adoption(entries, named)?),
        }
    }

    fn revocation(
        &self,
        revocation: &Revocation,
        named: &Named,
        control: &mut Control,
    ) -> Result<(), Stop<L::Error>> {
        if let Some(cut) = &revocation.cut {
            let mut heads = Vec::new();
            for id in cut {
                let below = below(id, named)?;
                match below.writes_settings {
                    true => heads.push(*id),
                    false => heads.extend(below.settings.iter()),
                }
            }
            control
                .cuts
                .push((revocation.key, Ids::from(heads.as_slice())));
        }
        for id in &revocation.replaces {
            let replaced = self.state.control(id);
            let same_key =
                replaced.is_some_and(|other| other.revocation(&revocation.key).is_some());
            if !same_key || self.state.strength_of(id) > Some(control.strength) {
                return Err(Reject::CannotReplace { id: *id }.into());
            }
        }
        Ok(())
    }

    /// What is in the entry's past of all that its records name, looked up at once.
    fn named(&self, records: &[AuthRecord]) -> Result<Named, Stop<L::Error>> {
        let mut ids: Vec<Id> = Vec::new();
        for record in records {
            match record {
                AuthRecord::Revoke(revocation) => ids.extend(revocation.cut.iter().flatten()),
                AuthRecord::Adopt { entries } => ids.extend(entries),
                _ => {}
            }
        }
        if ids.is_empty() || self.header.is_root() {
            return Ok(Named::new());
        }
        ids.sort_unstable();
        ids.dedup();
        let found = self.lookup.below(&self.header.parents, &ids);
        let found = found.map_err(Stop::Lookup)?.into_iter();
        let found = ids.into_iter().zip(found);
        Ok(found.filter_map(|(id, below)| Some((id, below?))).collect())
    }

    fn delegation(
        &self,
        delegation: &Delegation,
        control: &mut Control,
    ) -> Result<(), Stop<L::Error>> {
        let (database, author) = (delegation.database, control.strength);
        if database == self.header.database {
            return Err(Reject::DelegationLoop { database }.into());
        }
        if let Some(bound) = delegation.bound
            && !author.may_grant(bound)
            && !self.header.is_root()
        {
            return Err(Reject::BoundTooStrong { author, bound }.into());
        }
        let tips = &delegation.floor;
        let state = self.lookup.delegated(&database, tips);
        let Some(state) = state.map_err(Stop::Lookup)? else {
            return Err(Stop::Missing(Missing::Delegated {
                database,
                tips: tips.clone(),
            }));
        };
        if !self.state.rights().floors_lie_in(&database, state.ids()) {
            return Err(Reject::FloorNotForward { database }.into());
        }
        control.nesting = control.nesting.max(state.nesting_above());
        control.floors.push((database, Arc::new(state.floor())));
        Ok(())
    }
}

/// What is below an entry of all that it names.
type Named = BTreeMap<Id, Below>;

fn below<'n>(id: &Id, named: &'n Named) -> Result<&'n Below, Reject> {
    named.get(id).ok_or(Reject::NotBelow { id: *id })
}

fn adoption(entries: &Ids, named: &Named) -> Result<(), Reject> {
    for id in entries {
        if below(id, named)?.writes_settings {
            return Err(Reject::AdoptsSettings { id: *id });
        }
    }
    Ok(())
}
