//! A driver that does what the test says: records are kept, everything else is looked at.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::{AccessRequest, KeyName, Permission, SecretKey, SignedRequest};
use eidetica_engine::{
    Action, Command, CommandId, ConnectError, Engine, EngineConfig, EngineError, Input, Job,
    JobResult, LinkId, ProcessId, Response, Selection, Target, TaskId, Wishes,
};
use eidetica_entry::{Height, Id, PublicKey, Stamp};
use eidetica_protocol::{
    Failure, Holding, IngestTotals, Outcome, PeerIdentity, ProvenKeys, PushOutcome, Relation,
};
use eidetica_transport::Address;

pub(crate) const START: u64 = 1_800_000_000_000;

pub(crate) fn secret(n: u16) -> SecretKey {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_bytes(&seed)
}

pub(crate) fn key(n: u16) -> PublicKey {
    secret(n).public()
}

pub(crate) fn database(n: u8) -> Id {
    Id::new([n; 32])
}

pub(crate) fn address(text: &str) -> Address {
    Address::http(text).unwrap()
}

/// Databases that are synced by command only.
pub(crate) fn config() -> EngineConfig {
    let by_command = Wishes {
        enabled: true,
        on_commit: false,
        interval_s: None,
    };
    EngineConfig {
        wishes: (0..=255).map(|n| (database(n), by_command)).collect(),
        ..live_config()
    }
}

/// Databases that nobody tracks.
fn live_config() -> EngineConfig {
    EngineConfig {
        device: key(0),
        seed: 7,
        wishes: Vec::new(),
        process: None,
    }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        relation: Relation::Behind,
        complete: true,
        received: IngestTotals {
            new: 3,
            ..IngestTotals::default()
        },
        push: PushOutcome::Nothing,
        packs_sent: 0,
        compared: 0,
        requests: 1,
        frame_bytes: 500,
        common: vec![database(0xc0)],
        last: Some(Stamp::new(Height(9), database(0xc0))),
        holding: Holding::default(),
    }
}

pub(crate) fn request(
    key_n: u16,
    database: Id,
    permission: Permission,
    nonce: u8,
) -> SignedRequest {
    request_from(1, key_n, database, permission, nonce)
}

pub(crate) fn request_from(
    device_n: u16,
    key_n: u16,
    database: Id,
    permission: Permission,
    nonce: u8,
) -> SignedRequest {
    let request = AccessRequest {
        database,
        key: key(key_n),
        permission,
        name: KeyName::new("phone").unwrap(),
        device: key(device_n),
        nonce: [nonce; 16],
    };
    request.sign(&secret(key_n)).unwrap()
}

/// An engine, its clock, its records, and what it said last.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) now: u64,
    pub(crate) records: BTreeMap<String, Bytes>,
    pub(crate) writes: usize,
    pub(crate) actions: Vec<Action>,
    pub(crate) timeout: Option<u64>,
    next: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::of(config(), BTreeMap::new(), START)
    }

    /// With databases that nobody tracks.
    pub(crate) fn live() -> Self {
        Self::of(live_config(), BTreeMap::new(), START)
    }

    /// One of several processes, with databases that nobody tracks.
    pub(crate) fn process(n: u8, records: BTreeMap<String, Bytes>, now: u64) -> Self {
        let config = EngineConfig {
            process: Some(ProcessId::new([n; 16])),
            seed: u64::from(n),
            ..live_config()
        };
        Self::of(config, records, now)
    }

    pub(crate) fn restart_live(self) -> Self {
        Self::of(live_config(), self.records, self.now)
    }

    fn of(config: EngineConfig, records: BTreeMap<String, Bytes>, now: u64) -> Self {
        let all = records
            .iter()
            .map(|(key, value)| (key.as_str(), &value[..]));
        let engine = Engine::restore(config, all, now).unwrap();
        let mut bench = Self {
            engine,
            now,
            records,
            writes: 0,
            actions: Vec::new(),
            timeout: None,
            next: 0,
        };
        bench.drain();
        bench
    }

    /// The process ends here and begins again with what was written.
    pub(crate) fn restart(self) -> Self {
        Self::of(config(), self.records, self.now)
    }

    pub(crate) fn drain(&mut self) {
        loop {
            match self.engine.poll_action(self.now) {
                Action::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
                Action::Persist(record) => {
                    self.writes += 1;
                    match record.value {
                        Some(value) => self.records.insert(record.key, value),
                        None => self.records.remove(&record.key),
                    };
                }
                action => self.actions.push(action),
            }
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle_input(input, self.now);
        self.drain();
    }

    /// Gives a command with a far deadline.
    pub(crate) fn command(&mut self, command: Command) -> CommandId {
        self.command_until(command, self.now + 600_000)
    }

    pub(crate) fn command_until(&mut self, command: Command, deadline: u64) -> CommandId {
        self.next += 1;
        let id = CommandId(self.next);
        self.input(Input::Command(id, command, deadline));
        id
    }

    /// Gives a command and takes its reply, which must come at once.
    pub(crate) fn now(&mut self, command: Command) -> Result<Response, EngineError> {
        let id = self.command(command);
        self.reply(id).expect("a reply at once")
    }

    /// Lets time pass up to a moment, with ticks when they are due.
    pub(crate) fn pass_until(&mut self, at: u64) {
        let mut ticks = 0;
        while let Some(due) = self.timeout.filter(|due| *due <= at) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
            ticks += 1;
            assert!(ticks < 1000, "the engine spins");
        }
        self.now = at;
    }

    pub(crate) fn take<T>(&mut self, pick: impl Fn(&Action) -> Option<T>) -> Option<T> {
        let at = self
            .actions
            .iter()
            .position(|action| pick(action).is_some())?;
        pick(&self.actions.remove(at))
    }

    pub(crate) fn reply(&mut self, id: CommandId) -> Option<Result<Response, EngineError>> {
        self.take(|action| match action {
            Action::Reply(of, result) if *of == id => Some(result.clone()),
            _ => None,
        })
    }

    pub(crate) fn connect(&mut self) -> Option<(LinkId, String, Option<PublicKey>)> {
        self.take(|action| match action {
            Action::Connect(link, address, pinned) => Some((*link, address.to_string(), *pinned)),
            _ => None,
        })
    }

    pub(crate) fn task(&mut self) -> Option<(TaskId, LinkId, Job)> {
        self.take(|action| match action {
            Action::Run(task, link, job) => Some((*task, *link, job.clone())),
            _ => None,
        })
    }

    pub(crate) fn closed(&mut self) -> Option<LinkId> {
        self.take(|action| match action {
            Action::Close(link) => Some(*link),
            _ => None,
        })
    }

    pub(crate) fn aborted(&mut self) -> Option<TaskId> {
        self.take(|action| match action {
            Action::Abort(task) => Some(*task),
            _ => None,
        })
    }

    pub(crate) fn grant(&mut self) -> Option<(SignedRequest, PublicKey)> {
        self.take(|action| match action {
            Action::Grant { request, by } => Some(((**request).clone(), *by)),
            _ => None,
        })
    }

    pub(crate) fn connected(&mut self, link: LinkId, peer: PublicKey) {
        let proven = ProvenKeys::device(peer);
        self.input(Input::Connected(
            link,
            PeerIdentity {
                device: peer,
                version: 1,
                proven,
            },
        ));
    }

    pub(crate) fn connect_failed(&mut self, link: LinkId) {
        self.input(Input::ConnectFailed(
            link,
            ConnectError {
                text: "refused".into(),
                peer_fault: false,
            },
        ));
    }

    pub(crate) fn synced(&mut self, task: TaskId, result: Result<Outcome, Failure>) {
        self.input(Input::Finished(task, JobResult::Sync(Box::new(result))));
    }

    /// A peer that is registered and connected.
    pub(crate) fn with_peer(&mut self, n: u16) -> LinkId {
        let id = self.command(Command::Connect(Target::Address(address(&format!(
            "peer{n}:1"
        )))));
        let (link, ..) = self.connect().unwrap();
        self.connected(link, key(n));
        assert_eq!(self.reply(id), Some(Ok(Response::Peer(key(n)))));
        link
    }

    /// A peer with these addresses, the likeliest first.
    pub(crate) fn peer_at(&mut self, n: u16, addresses: &[&str]) {
        let register = Command::RegisterPeer {
            key: key(n),
            name: None,
        };
        self.now(register).unwrap();
        for text in addresses.iter().rev() {
            self.now(Command::AddAddress(key(n), address(text)))
                .unwrap();
        }
    }

    pub(crate) fn sync(&mut self, peer: PublicKey, databases: &[Id]) -> CommandId {
        self.command(Command::Sync {
            target: Target::Peer(peer),
            databases: Selection::These(databases.to_vec()),
            create: false,
        })
    }
}
