//! What the rules of authority cost: `cargo bench -p eidetica-benches --bench authority`.
//!
//! Each figure stands beside the verification of one signature in the same run, single and in batches:
//! every entry needs that anyway. Arguments choose among the parts by name; `ENTRIES` (default 1000000) bounds the most judged
//! entries, `CONTROLS` (default 10000) the settings entries. Rates are single runs: trust ratios more than rates.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_auth::{
    AuthRecord, AuthState, Below, KeyName, Lookup, Permission, Revocation, SecretKey,
    SettingsPayload, Signed, Verdict, judge, verify, verify_batch,
};
use eidetica_entry::{Draft, Header, Height, Id, ParentInfo, StoreName};

const PARTS: [(&str, fn()); 3] = [
    ("entries", judging_entries),
    ("resolving", resolving),
    ("memory", memory),
];

fn main() {
    eidetica_benches::run(&PARTS);
}

fn number(name: &str, default: usize) -> usize {
    eidetica_benches::number(name, default as u64) as usize
}

fn secret(n: usize) -> SecretKey {
    SecretKey::from_bytes(blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn grant(key: usize, permission: Permission) -> AuthRecord {
    AuthRecord::grant(secret(key).public(), permission, KeyName::default())
}

fn revoke(key: usize) -> AuthRecord {
    AuthRecord::Revoke(Revocation::of(secret(key).public()))
}

/// Verification of one signature, singly and in batches on all cores.
fn limits() -> (f64, f64) {
    let secret = secret(0);
    let key = secret.public();
    let messages: Vec<[u8; 32]> = (0..4096usize)
        .map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes())
        .collect();
    let signatures: Vec<_> = messages
        .iter()
        .map(|message| secret.sign(message))
        .collect();
    let start = Instant::now();
    for (message, signature) in messages.iter().zip(&signatures) {
        assert!(verify(&key, message, signature));
    }
    let single = micros(start.elapsed(), messages.len());
    let items: Vec<Signed<'_>> = messages
        .iter()
        .zip(&signatures)
        .map(|(message, signature)| Signed {
            key: &key,
            message,
            signature,
        })
        .collect();
    let start = Instant::now();
    assert!(verify_batch(&items, [9; 32]).is_empty());
    let batch = micros(start.elapsed(), messages.len());
    println!("one signature: {single:.2} us singly, {batch:.2} us in batches on all cores");
    (single, batch)
}

fn micros(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_secs_f64() * 1e6 / count as f64
}

/// Settings entries alone.
#[derive(Default)]
struct World {
    root: Option<Id>,
    nodes: HashMap<Id, (Header, AuthState)>,
    made: u64,
}

impl Lookup for World {
    type Error = Infallible;

    /// All that is made here is a chain or a single cut, so that known is below.
    fn below(&self, _: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>, Infallible> {
        let one = |id: &Id| {
            let (header, _) = self.nodes.get(id)?;
            Some(Below {
                settings: header.settings.clone(),
                writes_settings: true,
                author: header.author.key,
            })
        };
        Ok(ids.iter().map(one).collect())
    }

    fn delegated(&self, _: &Id, _: &[Id]) -> Result<Option<AuthState>, Infallible> {
        Ok(None)
    }
}

impl World {
    /// Keys 0 and 1 are admins, 0 the stronger, and 2 writes.
    fn new() -> Self {
        let mut world = Self::default();
        let records = vec![
            grant(0, Permission::Admin(0)),
            grant(1, Permission::Admin(1)),
            grant(2, Permission::Write(0)),
        ];
        let payload = payload(records);
        let stores = stores(&payload);
        let draft = Draft::root([1; 32], stores, secret(0).public(), None).unwrap();
        let (id, after, _) = world.judged(draft, &payload, &AuthState::default());
        world.root = Some(id);
        world.nodes.get_mut(&id).unwrap().1 = after;
        world
    }

    fn info(&self, id: &Id) -> ParentInfo {
        ParentInfo {
            id: *id,
            height: self.nodes[id].0.height,
            writes_settings: true,
            settings: self.nodes[id].0.settings.clone(),
        }
    }

    fn at(&self, parents: &[Id]) -> AuthState {
        let states = parents.iter().map(|id| self.nodes[id].1.clone());
        states.reduce(|a, b| a.join(&b)).unwrap()
    }

    /// A settings entry above others, none of which is below another one. Says what joining and
    /// judging took.
    fn says(&mut self, author: usize, parents: &[Id], records: Vec<AuthRecord>) -> (Id, Duration) {
        self.made += 1;
        let infos: Vec<_> = parents.iter().map(|id| self.info(id)).collect();
        let payload = payload(records);
        let draft = Draft::child(
            self.root.unwrap(),
            &infos,
            parents.to_vec(),
            stores(&payload),
            secret(author).public(),
            Some(self.made),
        )
        .unwrap();
        let start = Instant::now();
        let at = self.at(parents);
        let joined = start.elapsed();
        let (id, after, judged) = self.judged(draft, &payload, &at);
        self.nodes.get_mut(&id).unwrap().1 = after;
        (id, joined + judged)
    }

    fn judged(
        &mut self,
        draft: Draft,
        payload: &Bytes,
        at: &AuthState,
    ) -> (Id, AuthState, Duration) {
        let id = draft.id();
        let start = Instant::now();
        let Ok(verdict) = judge(draft.header(), id, Some(payload), at, self);
        let elapsed = start.elapsed();
        let Verdict::Sound(sound) = verdict else {
            panic!("{verdict:?}")
        };
        let after = sound.settings.unwrap().after;
        let node = (draft.header().clone(), AuthState::default());
        self.nodes.insert(id, node);
        (id, after, elapsed)
    }
}

fn payload(records: Vec<AuthRecord>) -> Bytes {
    SettingsPayload::new(records, Bytes::new())
        .unwrap()
        .encode()
}

fn stores(payload: &Bytes) -> BTreeMap<StoreName, Bytes> {
    BTreeMap::from([(StoreName::settings(), payload.clone())])
}

/// A chain of grants to ever new keys, every tenth one a revocation of an earlier key. Says how long
/// taking in its entries took.
fn chain(count: usize) -> (World, Id, Duration) {
    let mut world = World::new();
    let mut tip = world.root.unwrap();
    let mut took = Duration::ZERO;
    for n in 0..count {
        let record = match n % 10 {
            9 => revoke(n - 2),
            _ => grant(n + 10, Permission::Write(n as u32)),
        };
        let (next, elapsed) = world.says(n % 2, &[tip], vec![record]);
        took += elapsed;
        tip = next;
    }
    (world, tip, took)
}

/// The same, each above two of the last 32.
fn bush(count: usize, key: impl Fn(usize) -> usize) -> (World, Vec<Id>, Duration) {
    let mut world = World::new();
    let mut ids = vec![world.root.unwrap()];
    let mut took = Duration::ZERO;
    for n in 0..count {
        let record = match n % 10 {
            9 => revoke(key(n - 2)),
            _ => grant(key(n + 10), Permission::Write(n as u32)),
        };
        let back = |salt: usize| {
            let far = (n.wrapping_mul(2_654_435_761) >> (8 + salt)) % 32;
            ids[ids.len() - 1 - far.min(ids.len() - 1)]
        };
        let mut parents = vec![back(0), back(7)];
        parents.sort_unstable();
        parents.dedup();
        if let [one, two] = parents[..] {
            let above = |a: &Id, b: &Id| world.nodes[a].1.contains(b);
            if above(&one, &two) {
                parents = vec![one];
            } else if above(&two, &one) {
                parents = vec![two];
            }
        }
        let (next, elapsed) = world.says(n % 2, &parents, vec![record]);
        took += elapsed;
        ids.push(next);
    }
    (world, ids, took)
}

fn judging_entries() {
    let (single, batch) = limits();
    let most = number("ENTRIES", 1_000_000);
    println!(
        "settings entries | judged entries | us an entry | of a signature | of one in a batch"
    );
    for controls in [0, 10, number("CONTROLS", 10_000)] {
        let (world, tip, _) = chain(controls);
        let state = world.nodes[&tip].1.clone();
        let parent = ParentInfo {
            id: tip,
            height: Height(controls as u64),
            writes_settings: true,
            settings: world.nodes[&tip].0.settings.clone(),
        };
        let stores = BTreeMap::from([(StoreName::new("data").unwrap(), Bytes::from("x"))]);
        let author = secret(2).public();
        let root = world.root.unwrap();
        let draft = Draft::child(root, &[parent], vec![tip], stores, author, None).unwrap();
        for count in [1_000, most] {
            let start = Instant::now();
            for _ in 0..count {
                let verdict = judge(black_box(draft.header()), draft.id(), None, &state, &world);
                assert!(matches!(verdict, Ok(Verdict::Sound(_))));
            }
            let each = micros(start.elapsed(), count);
            println!(
                "{controls} | {count} | {each:.3} | {:.4} | {:.4}",
                each / single,
                each / batch
            );
        }
    }
}

fn resolving() {
    let (single, _) = limits();
    let count = number("CONTROLS", 10_000);
    let tell = |what: &str, took: Duration, count: usize| {
        let each = micros(took, count);
        println!(
            "{what}: {:.1} ms, {each:.1} us each, {:.2} signatures",
            took.as_secs_f64() * 1e3,
            each / single
        );
    };
    let anew = |what: &str, state: &AuthState| {
        let start = Instant::now();
        let anew = state.resolved_anew();
        tell(&format!("{what}, resolved anew"), start.elapsed(), count);
        assert_eq!(&anew, state);
    };

    let (mut world, tip, took) = chain(count);
    tell(&format!("chain of {count}, one by one"), took, count);
    anew("chain", &world.nodes[&tip].1.clone());
    let one_more = |world: &mut World, what: &str, parents: &[Id], records: Vec<AuthRecord>| {
        let (id, took) = world.says(0, parents, records);
        tell(&format!("then {what}"), took, 1);
        id
    };
    one_more(
        &mut world,
        "a grant",
        &[tip],
        vec![grant(3, Permission::Read)],
    );
    one_more(&mut world, "a revocation", &[tip], vec![revoke(11)]);
    let cut = AuthRecord::Revoke(Revocation {
        cut: Some(world.root.unwrap().into()),
        ..Revocation::of(secret(1).public())
    });
    let (_, took) = world.says(0, &[tip], vec![cut]);
    let what = format!(
        "a revocation that voids {} with a cut at the root",
        count / 2
    );
    tell(&what, took, 1);
    let mut beside: Vec<Id> = Vec::new();
    for n in 0..100 {
        beside.push(world.says(0, &[tip], vec![revoke(20 + n)]).0);
    }
    let (last, took) = world.says(0, &[tip], vec![revoke(11)]);
    tell("a revocation beside 100 others, judged", took, 1);
    let others = world.at(&beside);
    let start = Instant::now();
    black_box(others.join(&world.nodes[&last].1));
    tell("and joined with them", start.elapsed(), 1);
    let root = world.root.unwrap();
    let (late, _) = world.says(0, &[root], vec![revoke(2)]);
    let start = Instant::now();
    let joined = world.nodes[&tip].1.join(&world.nodes[&late].1);
    tell(
        "a revocation above the root arrives late",
        start.elapsed(),
        1,
    );
    let start = Instant::now();
    black_box(joined.changes_since(&world.nodes[&tip].1));
    tell("and what it changes", start.elapsed(), 1);
    drop(world);

    let (world, ids, took) = bush(count, |n| n);
    tell(&format!("bushy, {count}, one by one"), took, count);
    anew("bushy", &world.nodes[ids.last().unwrap()].1.clone());
    drop(world);

    let (world, ids, took) = bush(count, |_| 3);
    let what = format!("bushy, {count} about one key, one by one");
    tell(&what, took, count);
    anew(
        "bushy, one key",
        &world.nodes[ids.last().unwrap()].1.clone(),
    );
}

/// What a state for every one of a chain's entries takes.
fn memory() {
    let count = number("CONTROLS", 10_000);
    let before = resident();
    let (world, tip, _) = chain(count);
    let all = resident();
    let state = world.nodes[&tip].1.clone();
    let per_entry = |bytes: usize| bytes as f64 / count as f64;
    println!(
        "chain of {count}, a state kept for each: {:.0} bytes an entry",
        per_entry(all.saturating_sub(before))
    );
    drop(world);
    black_box(state.controls());
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    pages.map_or(0, |pages| pages.parse::<usize>().unwrap() * 4096)
}
