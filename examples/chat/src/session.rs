//! The user's rooms and the peers: opened at the start, then driven by commands on a thread of their own.
//!
//! Nothing here knows of a screen: commands go in, news come out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use eidetica::auth::Permission;
use eidetica::crdt::Doc;
use eidetica::sync::state::SyncStateManager;
use eidetica::sync::{BootstrapRequest, PeerCopy, Reach, RequestState, Scheme, Sync, Ticket};
use eidetica::user::types::{DatabasePreferences, SyncSettings};
use eidetica::{Database, Height, Id, Instance, KeyId, PublicKey, User};

use crate::address::RoomAddress;
use crate::args::{Args, Transport};
use crate::error::{Error, Result};
use crate::join::{Attempt, Step, join};
use crate::limits;
use crate::model::{Command, Invitation, Joining, News, Peer, Request, RoomView};
use crate::room::Room;

/// Marks a tracked database as a room, and says where it was joined.
const JOINED_AT: &str = "chat.joined_at";

/// What the thread of a session is woken by.
enum Task {
    Do(Command),
    /// Something was written in a room, here or elsewhere.
    Look,
    Join(RoomAddress, Step),
    End,
}

/// A logged-in user with its rooms.
pub(crate) struct Session {
    user: User,
    sync: Arc<Sync>,
    rooms: BTreeMap<Id, Room>,
    attempts: BTreeMap<Id, Attempt>,
    /// The invite that was made last for each room.
    invites: BTreeMap<Id, Ticket>,
    tasks: SyncSender<Task>,
    queue: Receiver<Task>,
    tell: Box<dyn Fn(News) + Send>,
    /// What was told last, so that the same is not told again.
    requests: Vec<Request>,
    peers: BTreeMap<Id, Vec<Peer>>,
    invitations: BTreeMap<Id, Invitation>,
}

/// Where commands are given to a running session.
pub(crate) struct Handle {
    tasks: SyncSender<Task>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Gives a command; false if too many wait already.
    pub(crate) fn command(&self, command: Command) -> bool {
        self.tasks.try_send(Task::Do(command)).is_ok()
    }

    /// Ends the session and closes its files.
    pub(crate) fn close(self) {
        // An error means that it ended already.
        let _ = self.tasks.send(Task::End);
        let _ = self.thread.join();
    }
}

/// Opening.
impl Session {
    /// Opens the instance, logs in, and starts to serve.
    pub(crate) fn open(args: &Args, tell: impl Fn(News) + Send + 'static) -> Result<Self> {
        let instance = open_instance(args.data_dir.as_deref())?;
        let user = login(&instance, &args.username)?;
        let sync = instance.enable_sync()?.sync()?;
        enable(&sync, args, &instance)?;
        serve(&sync, &listen_address(args, &instance))?;
        let (tasks, queue) = sync_channel(limits::QUEUE);
        Ok(Self {
            user,
            sync,
            rooms: BTreeMap::new(),
            attempts: BTreeMap::new(),
            invites: BTreeMap::new(),
            tasks,
            queue,
            tell: Box::new(tell),
            requests: Vec::new(),
            peers: BTreeMap::new(),
            invitations: BTreeMap::new(),
        })
    }

    /// The key that signs what is written here.
    pub(crate) fn own_key(&self) -> Result<PublicKey> {
        Ok(self.user.get_default_key()?.public_key())
    }

    /// Opens the rooms that the user has, and the one of the command line.
    fn open_rooms(&mut self, args: &Args) -> Result<()> {
        for prefs in self.user.list_database_prefs()? {
            let Some(joined_at) = prefs.sync_settings.properties.get(JOINED_AT) else {
                continue;
            };
            match self.user.open_database(prefs.database_id) {
                Ok(database) => self.add(database)?,
                // The request was not decided yet when the chat ended.
                Err(eidetica::Error::NoDatabase(_) | eidetica::Error::NoAccess(_)) => {
                    if let Ok(at) = joined_at.parse() {
                        self.join(at)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(name) = args
            .room_name
            .as_deref()
            .or(args.create_only.then_some("Chat"))
        {
            self.create_or_show(name)?;
        }
        match args.room() {
            Some(at) => self.join(at.clone()),
            None => Ok(()),
        }
    }

    /// Goes on on a thread of its own.
    pub(crate) fn start(mut self, args: &Args) -> Result<Handle> {
        let (tasks, args) = (self.tasks.clone(), args.clone());
        let work = move || {
            self.notice_failure(|session| session.open_rooms(&args));
            self.run();
        };
        let thread = thread::Builder::new()
            .name("session".to_owned())
            .spawn(work)?;
        Ok(Handle { tasks, thread })
    }

    fn run(&mut self) {
        loop {
            self.tell_changes();
            match self.queue.recv_timeout(limits::STATUS) {
                Ok(Task::Do(command)) => self.notice_failure(|session| session.carry_out(command)),
                Ok(Task::Join(at, step)) => {
                    self.notice_failure(|session| session.went_on(at, step))
                }
                Ok(Task::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Task::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn notice_failure(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = work(self) {
            (self.tell)(News::Notice(error.to_string()));
        }
    }
}

/// Commands.
impl Session {
    fn carry_out(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Send { room, text } => match self.rooms.get(&room) {
                Some(room) => room.send(&text).map_err(|error| error.context("not sent")),
                None => Ok(()),
            },
            Command::Create { name } => self.create(&name),
            Command::Join(at) => self.join(at),
            Command::More(room) => {
                self.rooms
                    .get_mut(&room)
                    .into_iter()
                    .for_each(Room::want_more);
                Ok(())
            }
            Command::Approve(request) => self.approve(&request),
            Command::Reject(request) => Ok(self.sync.reject_bootstrap_request(&request)?),
            Command::Invite {
                room,
                count,
                lifetime,
            } => self.invite(room, count, lifetime),
            Command::Uninvite(room) => self.uninvite(room),
            Command::GiveUp(room) => self.give_up(room),
        }
    }

    fn create_or_show(&mut self, name: &str) -> Result<()> {
        for room in self.rooms.values() {
            let key = room.database().default_auth_key().public_key();
            let right = room.database().settings()?.right_of(&key);
            if room.name()? == name && right.is_some_and(|right| right.permission().can_admin()) {
                (self.tell)(News::Show(room.id()));
                return Ok(());
            }
        }
        self.create(name)
    }

    fn create(&mut self, name: &str) -> Result<()> {
        let mut settings = Doc::new();
        settings.set_string("name", name);
        let database = self
            .user
            .create_database(settings, self.user.get_default_key()?)?;
        let id = database.root_id();
        self.track(id, "")?;
        self.add(database)?;
        (self.tell)(News::Show(id));
        Ok(())
    }

    fn join(&mut self, at: RoomAddress) -> Result<()> {
        let room = at.room();
        if !self.rooms.contains_key(&room) {
            self.track(room, &at.to_string())?;
            (self.tell)(News::Joining {
                at: at.clone(),
                state: Joining::Connecting,
            });
        }
        let (tasks, reported) = (self.tasks.clone(), at.clone());
        let report = move |step| {
            // An error means that the session ended.
            let _ = tasks.send(Task::Join(reported.clone(), step));
        };
        let attempt = join(
            Arc::clone(&self.sync),
            self.user.get_default_key()?,
            at,
            report,
        )?;
        self.attempts.insert(room, attempt);
        (self.tell)(News::Show(room));
        Ok(())
    }

    fn went_on(&mut self, at: RoomAddress, step: Step) -> Result<()> {
        if !self.attempts.contains_key(&at.room()) {
            return Ok(());
        }
        match step {
            Step::Still(state) => {
                if matches!(state, Joining::Failed(_)) {
                    self.attempts.remove(&at.room());
                    // A room that one is in stays, however another attempt to join it ended.
                    if !self.rooms.contains_key(&at.room()) {
                        self.user.remove_database(at.room())?;
                    }
                }
                (self.tell)(News::Joining { at, state });
                Ok(())
            }
            Step::Joined => {
                self.attempts.remove(&at.room());
                // Again: now that it is here, the key that has a right in it is known, and no secret is needed any more.
                self.track(at.room(), &at.clone().without_invite().to_string())?;
                match self.rooms.contains_key(&at.room()) {
                    true => Ok(()),
                    false => self.add(self.user.open_database(at.room())?),
                }
            }
        }
    }

    /// Lets so many in who come with a ticket, which is told when it is made.
    fn invite(&mut self, id: Id, count: u32, lifetime: Duration) -> Result<()> {
        let Some(room) = self.rooms.get(&id) else {
            return Ok(());
        };
        let key = room.database().default_auth_key();
        let ticket = self
            .sync
            .invite(id, key, Permission::Write, count, lifetime)
            .map_err(|error| Error::from(error).context("no invite"))?;
        self.invites.insert(id, ticket);
        Ok(())
    }

    /// Takes back all invites to a room, those of former runs too.
    fn uninvite(&mut self, room: Id) -> Result<()> {
        self.invites.remove(&room);
        let invites = self.sync.list_invites()?.into_iter();
        let open = invites.filter(|invite| invite.database_id == room && invite.left > 0);
        let mut count = 0;
        for invite in open {
            self.sync.revoke_invite(invite.id)?;
            count += 1;
        }
        let done = match count {
            0 => "there are no invites to this room".to_owned(),
            1 => "took an invite back".to_owned(),
            count => format!("took {count} invites back"),
        };
        (self.tell)(News::Notice(done));
        Ok(())
    }

    fn give_up(&mut self, room: Id) -> Result<()> {
        if let Some(attempt) = self.attempts.remove(&room) {
            attempt.give_up();
        }
        Ok(self.user.remove_database(room)?)
    }

    fn approve(&mut self, request: &eidetica::sync::RequestId) -> Result<()> {
        let asked = self.requests.iter().find(|asked| asked.id == *request);
        let Some(room) = asked.and_then(|asked| self.rooms.get(&asked.room)) else {
            return Ok(());
        };
        let key = room.database().default_auth_key();
        Ok(self.sync.approve_bootstrap_request(request, key)?)
    }

    /// Keeps the room in step with its peers, today and after a restart.
    fn track(&self, room: Id, joined_at: &str) -> Result<()> {
        let properties = BTreeMap::from([(JOINED_AT.to_owned(), joined_at.to_owned())]);
        let sync_settings = SyncSettings {
            sync_on_commit: true,
            properties,
            ..SyncSettings::default()
        };
        let key_id = self.user.get_default_key()?;
        Ok(self.user.add_database(DatabasePreferences {
            database_id: room,
            key_id,
            sync_settings,
        })?)
    }

    fn add(&mut self, database: Database) -> Result<()> {
        let tasks = self.tasks.clone();
        // Whatever the session does next, it looks at all rooms first: nothing is lost when the queue is full.
        let wake = move || drop(tasks.try_send(Task::Look));
        self.rooms
            .insert(database.root_id(), Room::open(database, wake)?);
        Ok(())
    }
}

/// News.
impl Session {
    fn tell_changes(&mut self) {
        for id in self.rooms.keys().copied().collect::<Vec<_>>() {
            self.notice_failure(|session| session.tell_room(id));
        }
        self.notice_failure(Self::tell_requests);
    }

    fn tell_room(&mut self, id: Id) -> Result<()> {
        let Some(room) = self.rooms.get_mut(&id) else {
            return Ok(());
        };
        if room.take_changed() {
            (self.tell)(News::Room(Box::new(view(room, &self.sync)?)));
        }
        let known = self.peers.get(&id).map(Vec::as_slice).unwrap_or_default();
        let peers = peers(&self.sync, room, known)?;
        if peers != known {
            (self.tell)(News::Peers {
                room: id,
                peers: peers.clone(),
            });
            self.peers.insert(id, peers);
        }
        self.tell_invitation(id)
    }

    fn tell_invitation(&mut self, room: Id) -> Result<()> {
        let invitation = match self.invites.get(&room) {
            Some(ticket) => invitation(&self.sync, ticket)?,
            None => None,
        };
        if self.invitations.get(&room) == invitation.as_ref() {
            return Ok(());
        }
        match invitation.clone() {
            Some(invitation) => self.invitations.insert(room, invitation),
            None => self.invitations.remove(&room),
        };
        (self.tell)(News::Invited { room, invitation });
        Ok(())
    }

    fn tell_requests(&mut self) -> Result<()> {
        let pending = self.sync.list_bootstrap_requests()?.into_iter();
        let requests: Vec<Request> = pending
            .filter(|request| request.state == RequestState::Pending)
            .map(Request::from)
            .collect();
        if requests != self.requests {
            self.requests = requests;
            (self.tell)(News::Requests(self.requests.clone()));
        }
        Ok(())
    }
}

fn view(room: &mut Room, sync: &Sync) -> Result<RoomView> {
    let (messages, has_more) = room.messages()?;
    let mut members = room.members()?;
    members.extend(room.former_members(&messages, &members)?);
    let ticket = sync.ticket(room.id()).ok();
    let ticket = ticket.map(|ticket| RoomAddress::Ticket(Box::new(ticket)));
    // An Iroh address has characters that a shell wants quoted.
    let plain = sync
        .get_server_address()
        .ok()
        .filter(|at| at.scheme() == Scheme::Http);
    let plain = plain.map(|at| RoomAddress::Plain {
        room: room.id(),
        at,
    });
    Ok(RoomView {
        id: room.id(),
        name: room.name()?,
        messages,
        has_more,
        members,
        own_key: room.database().default_auth_key().public_key(),
        address: plain.or_else(|| ticket.clone()),
        ticket,
    })
}

/// The invite of a ticket, while it holds.
fn invitation(sync: &Sync, ticket: &Ticket) -> Result<Option<Invitation>> {
    let name = ticket.invite().map(|invite| invite.id());
    let invites = sync.list_invites()?.into_iter();
    let mut held = invites.filter(|invite| Some(invite.id.public_key()) == name && invite.left > 0);
    Ok(held.next().map(|invite| Invitation {
        ticket: RoomAddress::Ticket(Box::new(ticket.clone())),
        left: invite.left,
        expires_ms: invite.expires_ms,
    }))
}

/// The devices that have the room, and up to where. `known` is what was known before: who was here once and is not now
/// lacks what is written meanwhile.
fn peers(sync: &Sync, room: &Room, known: &[Peer]) -> Result<Vec<Peer>> {
    let highest = room.highest()?;
    let copies = sync.database_status(room.id())?.peers;
    let is_away = |known: &&Peer| {
        copies
            .iter()
            .all(|copy| copy.peer.public_key() != known.device)
    };
    let away = known.iter().filter(is_away).cloned();
    let away: Vec<Peer> = away
        .map(|peer| Peer {
            is_connected: false,
            ..peer
        })
        .collect();
    let peer = |copy: PeerCopy| {
        let device = copy.peer.public_key();
        let before = known.iter().find(|known| known.device == device);
        let holds = match (copy.has_latest, before) {
            (true, _) => Some(highest),
            (false, Some(before)) => before.holds,
            (false, None) => synced_before(sync, room, copy.peer)?,
        };
        let is_connected = matches!(
            copy.connection,
            Reach::Connected { .. } | Reach::Subscribed { .. }
        );
        Ok(Peer {
            device,
            holds,
            is_connected,
        })
    };
    let here = copies.into_iter().map(peer);
    here.chain(away.into_iter().map(Ok)).collect()
}

/// What a peer held when it was last synchronized with. The highest entry that both had then is above everything that
/// had been written here, and below everything written since.
fn synced_before(sync: &Sync, room: &Room, peer: KeyId) -> Result<Option<Height>> {
    let op = sync.sync_tree().new_operation()?;
    let cursor = SyncStateManager::new(&op).get_sync_cursor(peer, room.id())?;
    let Some(last) = cursor.last_synced_entry else {
        return Ok(None);
    };
    Ok(room
        .database()
        .get(&last)?
        .map(|entry| entry.stamp().height))
}

impl From<BootstrapRequest> for Request {
    fn from(request: BootstrapRequest) -> Self {
        Self {
            id: request.id,
            room: request.database_id,
            key: request.key.public_key(),
            name: request.name.to_string(),
            permission: request.permission,
        }
    }
}

fn open_instance(data_dir: Option<&Path>) -> Result<Instance> {
    let location = match data_dir {
        Some(dir) => format!("file:{}", dir.display()),
        None => "memory:".to_owned(),
    };
    Instance::connect(&location).map_err(|error| {
        let is_locked = error.blame() == eidetica::Blame::Unavailable;
        let error = Error::from(error).context("cannot open the data directory");
        if is_locked {
            return error.hint("one program at a time may have it open");
        }
        error
    })
}

/// Logs the user in, who is made if there is none of this name.
fn login(instance: &Instance, name: &str) -> Result<User> {
    let password = std::env::var("EIDETICA_PASSWORD").ok();
    if !instance.list_users()?.iter().any(|user| user == name) {
        instance
            .create_user(name, password.as_deref())
            .map_err(|error| Error::from(error).context("--username"))?;
    }
    Ok(instance.login_user(name, password.as_deref())?)
}

fn enable(sync: &Sync, args: &Args, instance: &Instance) -> Result<()> {
    match args.transport {
        Transport::Http => Ok(sync.enable_http_transport()?),
        Transport::Iroh => enable_iroh(sync, args, instance),
    }
}

#[cfg(feature = "iroh")]
fn enable_iroh(sync: &Sync, args: &Args, instance: &Instance) -> Result<()> {
    use std::net::{Ipv4Addr, SocketAddr};

    use eidetica::sync::{IrohConfig, Relays};
    let relays: Relays = args
        .relays
        .parse()
        .map_err(|error| Error::new(error).context("--relays"))?;
    let mut config = IrohConfig::default();
    if relays == Relays::Disabled {
        // Nobody else is to be asked, the local network neither: a place that stays is the only way to be found again.
        let place = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port(args, instance)));
        config = config.with_lan(false).with_bind(vec![place]);
    }
    if let Some(listen) = &args.listen {
        let place = listen
            .parse()
            .map_err(|error| Error::new(error).context("--listen"))?;
        config = config.with_bind(vec![place]);
    }
    Ok(sync.enable_iroh_transport_with(config.with_relays(relays))?)
}

#[cfg(not(feature = "iroh"))]
fn enable_iroh(_: &Sync, _: &Args, _: &Instance) -> Result<()> {
    Err(Error::new("this build has no Iroh transport")
        .hint("build it with --features iroh, or use --transport http"))
}

fn serve(sync: &Sync, listen: &str) -> Result<()> {
    sync.start_server(listen).map_err(|error| {
        Error::new(error)
            .context(format!("cannot listen on {listen}"))
            .hint("--listen 127.0.0.1:0 takes any free port")
    })
}

/// Where to listen.
fn listen_address(args: &Args, instance: &Instance) -> String {
    match &args.listen {
        Some(listen) => listen.clone(),
        None => format!("127.0.0.1:{}", port(args, instance)),
    }
}

/// With a data directory the same port every time, so that others find it again; otherwise any.
fn port(args: &Args, instance: &Instance) -> u16 {
    if args.data_dir.is_none() {
        return 0;
    }
    let key = instance.device_key().to_string();
    let number = key.bytes().fold(0u16, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u16::from(byte))
    });
    limits::PORTS.start() + number % (limits::PORTS.end() - limits::PORTS.start())
}
