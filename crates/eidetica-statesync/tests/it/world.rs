//! A client with its log, servers, and a virtual clock. The client accepts nothing that is not the honest log's.

use std::collections::{BTreeMap, BTreeSet};

use eidetica_mmr::{Frontier, Location, Mmr, leaf_hash};
use eidetica_statesync::{
    Claim, Config, Dropped, Engine, Evidence, Feedback, Gap, Input, Local, Output, Pin, Restart,
    SourceId, Target, message::Request, respond,
};

use crate::liar::{Liar, Sent};
use crate::support::{Dice, Log, name, split};

/// Who answers.
pub(crate) enum Server {
    Honest,
    Liar(Box<Liar>),
    /// Honest, with one bit of one of its replies turned: which, where, how.
    Mutating {
        nth: u64,
        byte: usize,
        mask: u8,
    },
}

enum Event {
    /// For the client of an incarnation.
    Input(u64, Input),
    Connect(u64, SourceId),
    Grow,
}

/// What the client holds durably and not.
#[derive(Default)]
pub(crate) struct Store {
    boundary: Frontier,
    operations: Vec<Vec<u8>>,
    /// How many of them survive a crash.
    durable: usize,
    pub(crate) pin: Option<Pin>,
}

impl Store {
    /// What a log had at a size, appended before.
    pub(crate) fn of(log: &Log, leaves: u64) -> Self {
        let operations = log.operations[..leaves as usize].to_vec();
        Self {
            durable: operations.len(),
            operations,
            ..Self::default()
        }
    }

    fn mmr(&self) -> Mmr {
        let mut mmr = Mmr::from_frontier(self.boundary.clone());
        for operation in &self.operations {
            mmr.append(leaf_hash(operation)).unwrap();
        }
        mmr
    }

    pub(crate) fn local(&self) -> Local {
        Local {
            boundary: self.boundary.leaves().next(),
            frontier: self.mmr().frontier().clone(),
        }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) honest: Log,
    pub(crate) servers: Vec<Server>,
    pub(crate) store: Store,
    /// What the client has, hashed: the store's.
    mmr: Mmr,
    pub(crate) engine: Engine,
    pub(crate) now_ms: u64,
    pub(crate) dice: Dice,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    incarnation: u64,
    replies: u64,
    /// The first byte and the length of each reply, as it would be.
    pub(crate) reply_lengths: Vec<(u8, usize)>,
    acknowledged_ms: u64,
    pub(crate) steps: u64,
    /// The client dies before this step.
    pub(crate) crash_at: Option<u64>,
    /// How often the honest log still grows.
    pub(crate) growths: u64,
    pub(crate) prunes: bool,
    first_size: u64,
    pub(crate) alarms: Vec<Evidence>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) completed: Vec<Target>,
    pub(crate) restarts: Vec<Restart>,
    pub(crate) dropped: BTreeMap<SourceId, BTreeSet<&'static str>>,
    pub(crate) feedback: Vec<(SourceId, Feedback)>,
}

/// Steps that no run needs.
const STEPS: u64 = 60_000;
const GROWTH_MS: u64 = 400;

impl World {
    pub(crate) fn new(
        seed: u64,
        config: Config,
        honest: Log,
        servers: Vec<Server>,
        store: Store,
    ) -> Self {
        let pin = store.pin.clone();
        let first_size = honest.leaves().0;
        let engine = Engine::new(config.clone(), store.local(), pin).unwrap();
        let mut world = Self {
            config,
            honest,
            servers,
            mmr: store.mmr(),
            store,
            engine,
            now_ms: 0,
            dice: Dice(seed),
            events: BTreeMap::new(),
            serial: 0,
            incarnation: 0,
            replies: 0,
            reply_lengths: Vec::new(),
            acknowledged_ms: 0,
            steps: 0,
            crash_at: None,
            growths: 0,
            prunes: false,
            first_size,
            alarms: Vec::new(),
            gaps: Vec::new(),
            completed: Vec::new(),
            restarts: Vec::new(),
            dropped: BTreeMap::new(),
            feedback: Vec::new(),
        };
        world.connect_all();
        world.schedule(GROWTH_MS, Event::Grow);
        world
    }

    fn connect_all(&mut self) {
        for id in 0..self.servers.len() as u64 {
            let delay = self.dice.roll(20);
            self.schedule(delay, Event::Connect(self.incarnation, SourceId(id)));
        }
    }

    fn schedule(&mut self, delay_ms: u64, event: Event) {
        self.serial += 1;
        let at = (self.now_ms + delay_ms, self.serial);
        self.events.insert(at, event);
    }

    /// Runs until the newest target is reached and nothing grows any more, or until a time. Says whether it is reached.
    pub(crate) fn run(&mut self, until_ms: u64) -> bool {
        while self.now_ms < until_ms {
            if self.growths == 0 && self.is_done() {
                return true;
            }
            self.step();
        }
        false
    }

    /// Runs on until a time.
    pub(crate) fn run_on(&mut self, until_ms: u64) {
        while self.now_ms < until_ms {
            self.step();
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        let newest = self.honest.newest().target;
        self.completed.last().map(Target::root) == Some(newest.root())
            && self.mmr.root() == newest.root()
    }

    /// One output, or the next event.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < STEPS, "it goes on and on");
        if self.crash_at == Some(self.steps) {
            self.crash();
        }
        match self.engine.poll_output(self.now_ms) {
            Output::Timeout(at) => {
                assert!(at > self.now_ms, "a timeout that is over");
                self.wait(at);
            }
            output => self.carry_out(output),
        }
    }

    fn wait(&mut self, at: u64) {
        let next = self.events.first_key_value().map(|((time, _), _)| *time);
        let next_ms = next.unwrap_or(u64::MAX).min(at);
        if next_ms == u64::MAX {
            assert_eq!(self.engine.progress().sources, 0, "it waits for nothing");
            self.now_ms += 60_000;
            return;
        }
        self.now_ms = next_ms;
        if next != Some(next_ms) {
            return self.engine.handle_input(Input::Tick, self.now_ms);
        }
        let (_, event) = self.events.pop_first().unwrap();
        match event {
            Event::Grow => self.grow(),
            Event::Connect(incarnation, id) if incarnation == self.incarnation => {
                self.engine.handle_input(Input::Connected(id), self.now_ms);
            }
            Event::Input(incarnation, input) if incarnation == self.incarnation => {
                if let Input::Disconnected(id) = input {
                    self.schedule(300, Event::Connect(incarnation, id));
                }
                self.engine.handle_input(input, self.now_ms);
            }
            _ => {}
        }
    }

    fn grow(&mut self) {
        if self.growths == 0 {
            return;
        }
        self.growths -= 1;
        let (count, seed) = (1 + self.dice.roll(30), self.dice.roll(1 << 30));
        self.honest.grow(count, seed);
        let leaves = self.honest.leaves().0;
        if self.dice.roll(3) == 0 {
            let lower = self.dice.roll(leaves);
            self.honest.raise(lower);
        }
        if self.prunes {
            // Not what was the newest target when all began: somebody may have to be shown that it was continued.
            self.honest.boundary = self.honest.lower.min(self.first_size);
        }
        self.schedule(GROWTH_MS, Event::Grow);
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Request {
                source, message, ..
            } => self.ask(source, &message),
            Output::Restart { boundary, why } => self.restart(boundary, why),
            Output::Append { start, operations } => self.append(start, &operations.bytes),
            Output::Complete(target) => self.complete(target),
            Output::Persist(pin) => {
                self.assert_honest(&pin);
                self.store.pin = Some(pin);
            }
            Output::Alarm(evidence) => self.alarms.push(*evidence),
            Output::Gap(gap) => self.gaps.push(*gap),
            Output::Feedback { source, feedback } => self.note(source, feedback),
            Output::Adopted(target) => {
                assert!(target.lower() < target.leaves().next());
            }
            other => panic!("{other:?}"),
        }
    }

    fn note(&mut self, source: SourceId, feedback: Feedback) {
        self.feedback.push((source, feedback));
        let Feedback::Dropped(why) = feedback else {
            return;
        };
        if why == Dropped::Lies {
            self.dropped.entry(source).or_default().insert("lies");
        } else {
            self.schedule(5_000, Event::Connect(self.incarnation, source));
        }
    }

    /// A claim that is trusted is one that the honest log had.
    fn assert_honest(&self, claim: &Claim) {
        let target = &claim.target;
        assert!(target.leaves() <= self.honest.leaves());
        assert_eq!(target.root(), self.honest.root_at(target.leaves()));
    }

    fn restart(&mut self, boundary: Frontier, why: Restart) {
        let right = self.honest.mmr.frontier_at(boundary.leaves()).unwrap();
        assert_eq!(boundary, right, "a wrong boundary");
        self.restarts.push(why);
        self.store = Store {
            boundary: boundary.clone(),
            pin: self.store.pin.take(),
            ..Store::default()
        };
        self.mmr = Mmr::from_frontier(boundary);
        self.acknowledge();
    }

    fn append(&mut self, start: Location, mut bytes: &[u8]) {
        assert_eq!(start, self.mmr.leaves().next(), "not at the end");
        while !bytes.is_empty() {
            let (operation, rest) = bytes.split_at(split(bytes).unwrap());
            let at = self.mmr.leaves().0 as usize;
            assert_eq!(operation, self.honest.operations[at], "a wrong accept");
            self.store.operations.push(operation.to_vec());
            self.mmr.append(leaf_hash(operation)).unwrap();
            bytes = rest;
        }
        if self.dice.roll(2) == 0 {
            self.store.durable = self.store.operations.len();
        }
        self.acknowledge();
    }

    /// In order, sometimes a while later.
    fn acknowledge(&mut self) {
        let delay = self.dice.roll(2) * self.dice.roll(30);
        self.acknowledged_ms = self.acknowledged_ms.max(self.now_ms + delay);
        let input = Input::Applied(self.mmr.frontier().clone());
        let delay = self.acknowledged_ms - self.now_ms;
        self.schedule(delay, Event::Input(self.incarnation, input));
    }

    fn complete(&mut self, target: Target) {
        self.assert_honest(&Claim::unsigned(target));
        assert_eq!(self.mmr.leaves(), target.leaves());
        assert_eq!(self.mmr.root(), target.root());
        assert!(self.store.boundary.leaves().next() <= target.lower());
        self.store.durable = self.store.operations.len();
        self.completed.push(target);
    }

    /// The client dies and comes back with what was durable.
    pub(crate) fn crash(&mut self) {
        self.incarnation += 1;
        self.store.operations.truncate(self.store.durable);
        self.mmr = self.store.mmr();
        let (local, pin) = (self.store.local(), self.store.pin.clone());
        self.engine = Engine::new(self.config.clone(), local, pin).unwrap();
        self.connect_all();
    }

    fn ask(&mut self, id: SourceId, message: &[u8]) {
        assert!(Request::decode(message).is_ok());
        let delay = 5 + self.dice.roll(75);
        let right = respond(&name(), &self.honest, message).message;
        self.replies += 1;
        self.reply_lengths.push((right[0], right.len()));
        let sent = match &mut self.servers[id.0 as usize] {
            Server::Honest => vec![(delay, Sent::Message(right))],
            Server::Liar(liar) => liar.answer(message, right, &self.honest, delay, &mut self.dice),
            Server::Mutating { nth, byte, mask } => {
                let mut mutated = right;
                if *nth == self.replies
                    && let Some(byte) = mutated.get_mut(*byte)
                {
                    *byte ^= *mask;
                }
                vec![(delay, Sent::Message(mutated))]
            }
        };
        for (delay, sent) in sent {
            let input = match sent {
                Sent::Message(message) => Input::Reply {
                    source: id,
                    message,
                },
                Sent::Cut => Input::Disconnected(id),
            };
            self.schedule(delay, Event::Input(self.incarnation, input));
        }
    }
}
