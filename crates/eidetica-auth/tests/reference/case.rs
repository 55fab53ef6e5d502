//! A database that is judged twice: entry by entry, by the crate and by the reference.

use std::{
    convert::Infallible,
    fmt, iter,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use eidetica_auth::{
    AuthRecord, AuthState, Below, Cut, Delegation, KeyName, Lookup, Permission, Pinned, Pins,
    Revocation, Right, SecretKey, SettingsPayload, Standing, Subject, Verdict, judge,
};
use eidetica_entry::{Author, Header, Height, Id, Ids, PublicKey, StoreName, StoreRef, Via};

use crate::{
    delegation, payload,
    resolver::{self, Database, Set},
};

/// Key numbers are positions here.
pub static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let secret = |n| SecretKey::from_bytes(&[n; 32]);
    (1..=12).map(|n| secret(n).public()).collect()
});

/// An entry to be made. Other entries are named by their positions, delegated databases by theirs
/// in [`Case::worlds`] and their pins as the set of their tips.
#[derive(Debug, Clone)]
pub struct Spec {
    pub parents: Set,
    pub author: usize,
    pub via: Vec<(usize, Set)>,
    pub says: Option<Vec<Say>>,
    pub data: bool,
}

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    Grant(usize, Right),
    Wildcard(Option<Permission>),
    Revoke {
        key: usize,
        to: Option<Permission>,
        cut: Option<Set>,
        replaces: Set,
    },
    Renounce,
    Rotate(usize),
    Adopt(Set),
    Delegate {
        world: usize,
        bound: Option<Permission>,
        floor: Set,
    },
}

impl Spec {
    pub fn data(author: usize, parents: Set) -> Self {
        Self {
            parents,
            author,
            via: Vec::new(),
            says: None,
            data: true,
        }
    }

    pub fn says(author: usize, parents: Set, says: Vec<Say>) -> Self {
        Self {
            parents,
            author,
            via: Vec::new(),
            says: Some(says),
            data: false,
        }
    }

    pub fn via(mut self, via: Vec<(usize, Set)>) -> Self {
        self.via = via;
        self
    }
}

/// The positions in a set.
pub fn members(mut set: Set) -> impl Iterator<Item = usize> + Clone {
    iter::from_fn(move || {
        let at = set.trailing_zeros() as usize;
        set &= set.checked_sub(1)?;
        Some(at)
    })
}

pub fn set(members: impl IntoIterator<Item = usize>) -> Set {
    members.into_iter().fold(0, |set, at| set | 1 << at)
}

struct Made {
    spec: Spec,
    id: Id,
    header: Header,
    /// Everything below.
    past: Set,
    /// The states before and after it.
    at: AuthState,
    after: AuthState,
}

/// See the module.
pub struct Case {
    salt: u64,
    entries: Vec<Made>,
    control: Set,
    pub reference: Arc<Database>,
    pub worlds: Arc<Worlds>,
}

/// The databases that another one may delegate to.
#[derive(Default)]
pub struct Worlds {
    pub cases: Vec<Arc<Case>>,
    references: Arc<delegation::Worlds>,
}

impl Worlds {
    pub fn new(cases: Vec<Arc<Case>>) -> Arc<Self> {
        let reference = |case: &Arc<Case>| (case.entries[0].id, Arc::clone(&case.reference));
        let references = delegation::Worlds::new(cases.iter().map(reference).collect());
        Arc::new(Self {
            cases,
            references: Arc::new(references),
        })
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "salt {}", self.salt)?;
        for (at, made) in self.entries.iter().enumerate() {
            let parents: Vec<_> = members(made.spec.parents).collect();
            writeln!(f, "{at}: parents {parents:?} {:?}", made.spec)?;
        }
        Ok(())
    }
}

/// Counts of what was compared.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub cases: u64,
    pub entries: u64,
    pub rejected: u64,
    pub void: u64,
    pub orders: u64,
    pub flips: u64,
    /// Cases whose solutions were all tried.
    pub solved: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.cases += other.cases;
        self.entries += other.entries;
        self.rejected += other.rejected;
        self.void += other.void;
        self.orders += other.orders;
        self.flips += other.flips;
        self.solved += other.solved;
    }
}

impl Case {
    /// An empty database. `salt` decides the ids, which must not matter.
    pub fn new(salt: u64, worlds: &Arc<Worlds>) -> Self {
        let reference = Database::of(Arc::clone(&worlds.references));
        Self {
            salt,
            entries: Vec::new(),
            control: 0,
            reference: Arc::new(reference),
            worlds: Arc::clone(worlds),
        }
    }

    fn reference_mut(&mut self) -> &mut Database {
        Arc::get_mut(&mut self.reference).expect("a world is not changed")
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn control(&self) -> Set {
        self.control
    }

    pub fn spec(&self, at: usize) -> &Spec {
        &self.entries[at].spec
    }

    /// The entries of a set that are below none of its others.
    pub fn maximal(&self, set: Set) -> Set {
        members(set).fold(set, |left, at| left & !self.entries[at].past)
    }

    /// These entries and all below them.
    pub fn closure(&self, set: Set) -> Set {
        members(set).fold(set, |all, at| all | self.entries[at].past)
    }

    /// Makes an entry, has it judged on its own past by both, and keeps it if it is sound.
    pub fn push(&mut self, spec: Spec) -> bool {
        let made = self.make(spec);
        let settings = made.spec.says.as_ref().map(|says| self.payload(says));
        let theirs = self
            .reference_mut()
            .insert(made.id, &made.header, settings.as_deref());
        let ours = judge(&made.header, made.id, settings.as_deref(), &made.at, self);
        let Ok(ours) = ours;
        let (verdict, after) = match ours {
            Verdict::Sound(sound) => (
                resolver::Verdict::Effective(number(sound.strength)),
                sound.settings.map(|write| write.after),
            ),
            Verdict::Reject(_) => (resolver::Verdict::Reject, None),
            _ => (resolver::Verdict::Pending, None),
        };
        assert_eq!(
            verdict, theirs,
            "crate (left) and reference differ on {:?} above\n{self:?}",
            made.spec
        );
        if !matches!(verdict, resolver::Verdict::Effective(_)) {
            return false;
        }
        if made.spec.says.is_some() {
            self.control |= 1 << self.len();
        }
        let after = after.unwrap_or_else(|| made.at.clone());
        self.entries.push(Made { after, ..made });
        true
    }

    /// Forgets the newest entry.
    pub fn pop(&mut self) {
        self.entries.pop();
        self.reference_mut().pop();
        self.control &= set(0..self.len());
    }

    /// The standing of an entry among all of them, after both agreed on it in every order.
    pub fn verdict(&self, at: usize) -> resolver::Verdict {
        self.check(&orders(self));
        let resolved = self.reference.resolve(self.reference.all());
        self.reference.verdict(self.entries[at].id, &resolved)
    }

    /// Compares standings in these orders of arrival of the control entries.
    pub fn check(&self, orders: &[Vec<usize>]) -> Counts {
        let resolved = self.reference.resolve(self.reference.all());
        let mut counts = Counts {
            cases: 1,
            entries: self.len() as u64,
            ..Counts::default()
        };
        let mut first = None;
        for (n, order) in orders.iter().enumerate() {
            let state = match n {
                0 => self.arrive_watched(order, &mut counts),
                _ => self.arrive(order),
            };
            counts.orders += 1;
            let first = first.get_or_insert_with(|| state.clone());
            assert_eq!(
                *first, state,
                "orders {:?} and {order:?}\n{self:?}",
                orders[0]
            );
            if n > 0 && n + 1 < orders.len() {
                continue;
            }
            for (at, made) in self.entries.iter().enumerate() {
                let ours = match self.standing(at, &state) {
                    Standing::Effective(right) => resolver::Verdict::Effective(number(right)),
                    Standing::Void(_) => resolver::Verdict::Void,
                };
                let theirs = self.reference.verdict(made.id, &resolved);
                assert_eq!(
                    ours, theirs,
                    "crate (left) and reference differ on entry {at} in order {order:?}\n{self:?}"
                );
                counts.void += u64::from(n == 0 && theirs == resolver::Verdict::Void);
            }
        }
        counts
    }

    fn arrive(&self, order: &[usize]) -> AuthState {
        let join = |state: AuthState, at: &usize| state.join(&self.entries[*at].after);
        order.iter().fold(AuthState::default(), join)
    }

    /// Arrival one by one, where every standing that changes must have been foretold.
    fn arrive_watched(&self, order: &[usize], counts: &mut Counts) -> AuthState {
        let mut state = AuthState::default();
        let mut here: Set = 0;
        let mut stood: Vec<Option<bool>> = vec![None; self.len()];
        for at in order {
            let newer = state.join(&self.entries[*at].after);
            let changes = newer.changes_since(&state);
            let stored = |x: &usize| self.entries[*x].past & self.control & !here == 0;
            let stored =
                |x: &usize| stored(x) && (self.control >> x & 1 == 0 || here >> x & 1 == 1);
            for x in (0..self.len()).filter(stored).filter(|_| here != 0) {
                let before = stood[x].unwrap_or_else(|| self.standing(x, &state).is_effective());
                let after = self.standing(x, &newer).is_effective();
                stood[x] = Some(after);
                if before == after {
                    continue;
                }
                counts.flips += 1;
                let made = &self.entries[x];
                let concerned = changes
                    .keys
                    .as_ref()
                    .is_none_or(|keys| keys.contains(&made.header.author.key));
                let outside = changes.cuts.iter().any(|cut| self.outside(x, &cut.below));
                let foretold = match self.control >> x & 1 {
                    1 => changes.settings.contains(&made.id),
                    _ => concerned && outside || changes.adopted.contains(&made.id),
                };
                assert!(
                    foretold,
                    "entry {x} changes unforetold when {at} comes in {order:?}: {changes:?}\n{self:?}"
                );
            }
            state = newer;
            here |= 1 << at;
        }
        state
    }

    fn standing(&self, at: usize, state: &AuthState) -> Standing {
        let made = &self.entries[at];
        if self.control >> at & 1 == 1 {
            return state
                .settings_standing(&made.id)
                .expect("a control entry that came");
        }
        let Ok(pins) = Pinned::read(&made.header.author, &made.at, self);
        let pinned = match pins {
            Pins::None => None,
            Pins::At(pinned) => Some(pinned),
            other => panic!("a kept entry with {other:?}"),
        };
        let subject = Subject {
            id: made.id,
            key: made.header.author.key,
            pinned: pinned.as_ref(),
        };
        let outside = |cut: &Cut| Ok::<_, Infallible>(self.outside(at, &cut.below));
        let Ok(standing) = state.standing(&subject, &made.at, outside);
        standing
    }

    fn outside(&self, at: usize, cut: &[Id]) -> bool {
        let cut = set(cut.iter().map(|id| self.find(id).expect("a cut below")));
        self.closure(cut) >> at & 1 == 0
    }

    fn find(&self, id: &Id) -> Option<usize> {
        self.entries.iter().position(|made| made.id == *id)
    }

    fn state(&self, tips: Set) -> AuthState {
        let states = members(tips).map(|at| &self.entries[at].after);
        states.fold(AuthState::default(), |all, state| all.join(state))
    }

    fn ids(&self, set: Set) -> Ids {
        members(set).map(|at| self.entries[at].id).collect()
    }

    fn make(&self, spec: Spec) -> Made {
        let past = self.closure(spec.parents);
        let pins = self.maximal(past & self.control);
        let store = |name: StoreName| StoreRef::of(name, b"").expect("short");
        let data = spec
            .data
            .then(|| store(StoreName::new("data").expect("a name")));
        let settings = spec.says.as_ref().map(|_| store(StoreName::settings()));
        let height = members(spec.parents)
            .map(|at| self.entries[at].header.height.next())
            .max();
        let header = Header {
            version: Header::VERSION,
            database: self
                .entries
                .first()
                .map_or(Id::new([0; 32]), |root| root.id),
            parents: self.ids(spec.parents),
            height: height.unwrap_or(Height::ROOT),
            settings: self.ids(pins),
            stores: settings.into_iter().chain(data).collect(),
            author: self.author(&spec),
            timestamp_ms: None,
        };
        let (id, at) = (id(self.salt, self.len()), self.state(pins));
        let after = AuthState::default();
        Made {
            spec,
            id,
            header,
            past,
            at,
            after,
        }
    }

    fn author(&self, spec: &Spec) -> Author {
        let via = spec.via.iter().map(|(world, tips)| {
            let world = &self.worlds.cases[*world];
            Via {
                database: world.entries[0].id,
                tips: world.ids(*tips),
            }
        });
        Author {
            key: KEYS[spec.author],
            via: via.collect(),
        }
    }

    fn payload(&self, says: &[Say]) -> Bytes {
        let records = says.iter().map(|say| self.record(say)).collect();
        let payload = SettingsPayload::new(records, Bytes::new());
        payload.expect("records with different subjects").encode()
    }

    fn record(&self, say: &Say) -> AuthRecord {
        let name = || KeyName::new("k").expect("a name");
        match say {
            Say::Grant(key, right) => AuthRecord::Grant {
                key: KEYS[*key],
                right: *right,
                name: name(),
            },
            Say::Wildcard(permission) => AuthRecord::Wildcard(*permission),
            Say::Revoke {
                key,
                to,
                cut,
                replaces,
            } => AuthRecord::Revoke(Revocation {
                key: KEYS[*key],
                to: *to,
                cut: cut.map(|cut| self.ids(cut)),
                replaces: self.ids(*replaces),
                reason: Default::default(),
            }),
            Say::Renounce => AuthRecord::Renounce,
            Say::Rotate(key) => AuthRecord::Rotate {
                to: KEYS[*key],
                name: name(),
            },
            Say::Adopt(entries) => AuthRecord::Adopt {
                entries: self.ids(*entries),
            },
            Say::Delegate {
                world,
                bound,
                floor,
            } => {
                let world = &self.worlds.cases[*world];
                AuthRecord::Delegate(Delegation {
                    database: world.entries[0].id,
                    bound: *bound,
                    floor: world.ids(*floor),
                    name: name(),
                })
            }
        }
    }
}

impl Lookup for Case {
    type Error = Infallible;

    fn below(&self, parents: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>, Infallible> {
        let parents = set(parents.iter().map(|id| self.find(id).expect("a parent")));
        let below = self.closure(parents);
        let facts = |id: &Id| {
            let at = self.find(id).filter(|at| below >> at & 1 == 1)?;
            let header = &self.entries[at].header;
            Some(Below {
                settings: header.settings.clone(),
                writes_settings: header.writes_settings(),
                author: header.author.key,
            })
        };
        Ok(ids.iter().map(facts).collect())
    }

    fn delegated(&self, database: &Id, tips: &[Id]) -> Result<Option<AuthState>, Infallible> {
        let world = self
            .worlds
            .cases
            .iter()
            .find(|world| world.entries[0].id == *database);
        let state = world.and_then(|world| {
            let tips = tips
                .iter()
                .map(|id| world.find(id))
                .collect::<Option<Vec<_>>>()?;
            Some(world.state(set(tips)))
        });
        Ok(state)
    }
}

/// Scattered bytes, so that the order of ids says nothing about the entries.
fn id(salt: u64, at: usize) -> Id {
    let hash = blake3::hash(&[salt.to_le_bytes(), (at as u64).to_le_bytes()].concat());
    Id::new(*hash.as_bytes())
}

/// A right in the numbers of the reference.
pub fn number(right: Right) -> payload::Right {
    match right {
        Right::Recovery => payload::RECOVERY,
        Right::Permission(Permission::Admin(rank)) => payload::admin(rank),
        Right::Permission(Permission::Write(rank)) => payload::write(rank),
        Right::Permission(Permission::Read) => payload::READ,
    }
}

/// Every order in which these entries can arrive: each after what lies below it.
pub fn orders(case: &Case) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for _ in members(case.control()) {
        let longer = |order: &Vec<usize>| {
            let here = set(order.iter().copied());
            let next = members(case.control() & !here);
            let next = next.filter(move |at| case.entries[*at].past & case.control & !here == 0);
            next.map(|at| [order.as_slice(), &[at]].concat())
                .collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders
}
