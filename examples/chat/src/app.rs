//! What the screen shows and how it changes: events in, commands out. No terminal, no databases, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use eidetica::auth::Permission;
use eidetica::sync::RequestId;
use eidetica::{Id, PublicKey};
use jiff::tz::TimeZone;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::address::RoomAddress;
use crate::input::Input;
use crate::limits;
use crate::model::{Command, Invitation, Joining, News, Peer, Request, RoomView};
use crate::names::fingerprint;
use crate::slash::Slash;
use crate::transcript::{Delivery, Scroll, Transcript, delivery};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Key(KeyEvent),
    Paste(String),
    /// A line of standard input, where there is no screen.
    Line(String),
    /// The screen has another size, or has to be drawn again for another reason.
    Redraw,
    News(News),
    /// The program was asked to end.
    End,
}

/// What stands in the place of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panel {
    Help,
    Invite,
    Requests,
    People,
}

/// A room on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Tab {
    pub(crate) id: Id,
    pub(crate) content: Content,
    pub(crate) peers: Vec<Peer>,
    pub(crate) invitation: Option<Invitation>,
    /// Messages of others that came while nobody looked.
    pub(crate) unread: usize,
    pub(crate) scroll: Scroll,
    /// What is being typed for this room while another one is shown.
    draft: Input,
    /// Computed when it is drawn.
    transcript: Option<Transcript>,
}

/// Whether a room is here.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Open(Box<RoomView>),
    Joining { at: RoomAddress, state: Joining },
}

/// All of it.
pub(crate) struct App {
    pub(crate) tabs: Vec<Tab>,
    pub(crate) current: usize,
    pub(crate) input: Input,
    pub(crate) panel: Option<Panel>,
    /// The first line of the panel that is shown, or the request that is chosen.
    pub(crate) panel_at: usize,
    /// In the order in which they came: whoever comes later moves nobody.
    pub(crate) requests: Vec<Request>,
    /// The requests when the line that is being typed was begun: what its numbers mean.
    numbered: Vec<RequestId>,
    pub(crate) notice: Option<String>,
    /// The beginning of the own key.
    pub(crate) fingerprint: String,
    /// Where the data is, in words.
    pub(crate) storage: String,
    pub(crate) zone: TimeZone,
    pub(crate) is_done: bool,
    /// Rows for messages when it was last drawn.
    pub(crate) rows: usize,
    /// The room to show when it comes.
    wanted: Option<Id>,
    commands: VecDeque<Command>,
}

impl App {
    pub(crate) fn new(own_key: &PublicKey, storage: String, zone: TimeZone) -> Self {
        Self {
            tabs: Vec::new(),
            current: 0,
            input: Input::default(),
            panel: None,
            panel_at: 0,
            requests: Vec::new(),
            numbered: Vec::new(),
            notice: None,
            fingerprint: fingerprint(own_key, limits::FINGERPRINT),
            storage,
            zone,
            is_done: false,
            rows: 1,
            wanted: None,
            commands: VecDeque::new(),
        }
    }

    /// Takes one event in.
    pub(crate) fn handle(&mut self, event: Event) {
        if matches!(event, Event::Key(_) | Event::Paste(_)) && self.input.text().is_empty() {
            self.numbered = self.requests.iter().map(|request| request.id).collect();
        }
        match event {
            Event::Key(key) => self.key(key),
            Event::Paste(text) => self
                .input
                .insert(&text.replace("\r\n", "\n").replace('\r', "\n")),
            Event::News(news) => self.news(news),
            Event::Redraw | Event::Line(_) => {}
            Event::End => self.is_done = true,
        }
    }

    /// What has to be done now; ask until there is nothing more.
    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The room that is shown.
    pub(crate) fn tab(&self) -> Option<&Tab> {
        self.tabs.get(self.current)
    }

    fn tab_mut(&mut self) -> Option<&mut Tab> {
        self.tabs.get_mut(self.current)
    }

    /// The room that is shown, if it is here.
    pub(crate) fn room(&self) -> Option<&RoomView> {
        self.tab().and_then(Tab::room)
    }

    /// The transcript of the room that is shown, at this width.
    pub(crate) fn transcript(&mut self, width: u16) -> Option<&Transcript> {
        let zone = self.zone.clone();
        self.tab_mut()?.transcript(width, &zone)
    }

    fn say(&mut self, notice: impl Into<String>) {
        self.notice = Some(notice.into());
    }
}

/// Keys.
impl App {
    fn key(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            // Both together are AltGr, with which letters are typed.
            KeyCode::Char(c) if control == alt => self.input.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Char(c) if control => self.control(c),
            KeyCode::Char(c) => self.alt(c),
            KeyCode::Enter if alt => self.input.insert("\n"),
            KeyCode::Enter => self.enter(),
            KeyCode::Esc => self.escape(),
            KeyCode::F(1) => self.toggle(Panel::Help),
            KeyCode::PageUp => self.scroll(self.page()),
            KeyCode::PageDown => self.scroll(-self.page()),
            KeyCode::Up => self.scroll(1),
            KeyCode::Down => self.scroll(-1),
            KeyCode::Home if control => self.scroll(isize::MAX),
            KeyCode::End if control => self.scroll(-isize::MAX),
            _ => self.edit(key.code, control || alt),
        }
    }

    fn edit(&mut self, key: KeyCode, by_word: bool) {
        match key {
            KeyCode::Backspace if by_word => self.input.delete_word(),
            KeyCode::Backspace => self.input.backspace(),
            KeyCode::Delete => self.input.delete(),
            KeyCode::Left if by_word => self.input.word_left(),
            KeyCode::Left => self.input.left(),
            KeyCode::Right if by_word => self.input.word_right(),
            KeyCode::Right => self.input.right(),
            KeyCode::Home => self.input.start(),
            KeyCode::End => self.input.end(),
            _ => {}
        }
    }

    fn control(&mut self, c: char) {
        match c {
            'c' => self.is_done = true,
            'd' if self.input.text().is_empty() => self.is_done = true,
            'd' => self.input.delete(),
            'a' => self.input.start(),
            'e' => self.input.end(),
            'u' => self.input.delete_to_start(),
            'k' => self.input.delete_to_end(),
            'w' => self.input.delete_word(),
            'j' => self.input.insert("\n"),
            'n' => self.next(1),
            'p' => self.next(self.tabs.len().saturating_sub(1)),
            'y' => self.decide(true),
            'x' => self.decide(false),
            _ => {}
        }
    }

    fn alt(&mut self, c: char) {
        match c {
            'h' => self.toggle(Panel::Help),
            'i' => self.toggle(Panel::Invite),
            'r' => self.toggle(Panel::Requests),
            'p' => self.toggle(Panel::People),
            'b' => self.input.word_left(),
            'f' => self.input.word_right(),
            '1'..='9' => self.show(c.to_digit(10).map_or(0, |digit| digit as usize - 1)),
            _ => {}
        }
    }

    fn escape(&mut self) {
        self.notice = None;
        match self.panel.take() {
            Some(_) => {}
            None => self.scroll(-isize::MAX),
        }
    }

    fn toggle(&mut self, panel: Panel) {
        let is_shown = self.panel == Some(panel);
        self.panel = (!is_shown).then_some(panel);
        self.panel_at = 0;
    }

    fn page(&self) -> isize {
        isize::try_from(self.rows.saturating_sub(1).max(1)).unwrap_or(isize::MAX)
    }

    /// Up; down if negative.
    fn scroll(&mut self, by: isize) {
        if self.panel.is_some() {
            self.panel_at = self.panel_at.saturating_add_signed(by.saturating_neg());
            if self.panel == Some(Panel::Requests) {
                self.panel_at = self.panel_at.min(self.requests.len().saturating_sub(1));
            }
            return;
        }
        let rows = self.rows;
        if let Some(id) = self.tab_mut().and_then(|tab| tab.scroll_by(by, rows)) {
            self.commands.push_back(Command::More(id));
        }
    }

    /// Shows the room so many tabs further, around the end.
    fn next(&mut self, by: usize) {
        if !self.tabs.is_empty() {
            self.show((self.current + by) % self.tabs.len());
        }
    }

    fn show(&mut self, tab: usize) {
        if tab >= self.tabs.len() || tab == self.current {
            return;
        }
        let typed = std::mem::take(&mut self.input);
        if let Some(before) = self.tab_mut() {
            before.draft = typed;
        }
        self.current = tab;
        self.panel = None;
        // Nobody knows which list a line meant that was begun some time ago.
        self.numbered.clear();
        if let Some(now) = self.tab_mut() {
            now.unread = 0;
            self.input = std::mem::take(&mut now.draft);
        }
    }
}

/// What is typed.
impl App {
    fn enter(&mut self) {
        self.notice = None;
        let text = self.input.text();
        if text.trim().is_empty() {
            return;
        }
        match Slash::read(text) {
            Ok(None) => self.send(),
            Ok(Some(command)) => {
                self.input.take();
                self.command(command);
            }
            Err(wrong) => self.say(wrong),
        }
    }

    /// Sends what is typed; it stays where it is if it cannot be sent.
    fn send(&mut self) {
        let text = self.input.text();
        let text = text.strip_prefix('/').unwrap_or(text).trim_end().to_owned();
        let room = match self.tab() {
            None => {
                return self.say("no room yet: /create NAME makes one, /join ADDRESS joins one");
            }
            Some(tab) => match tab.room() {
                None => return self.say("you are not in this room yet"),
                Some(room) if !room.permission().is_some_and(|may| may.can_write()) => {
                    return self.say("you may read here, but not write");
                }
                Some(room) => room.id,
            },
        };
        if text.len() > limits::MESSAGE_BYTES {
            let (long, most) = (text.len(), limits::MESSAGE_BYTES);
            return self.say(format!(
                "a message of {long} bytes is too long: {most} at most"
            ));
        }
        self.input.take();
        self.commands.push_back(Command::Send { room, text });
        if let Some(tab) = self.tab_mut() {
            tab.scroll = Scroll::Bottom;
        }
    }

    fn command(&mut self, command: Slash) {
        match command {
            Slash::Create(name) => self.commands.push_back(Command::Create { name }),
            Slash::Join(at) => self.commands.push_back(Command::Join(at)),
            Slash::Address => self.toggle(Panel::Invite),
            Slash::Invite(count, lifetime) => self.invite(count, lifetime),
            Slash::Uninvite => self.uninvite(),
            Slash::Requests => self.toggle(Panel::Requests),
            Slash::People => self.toggle(Panel::People),
            Slash::Help => self.toggle(Panel::Help),
            Slash::Approve(number) => self.decide_by(number, true),
            Slash::Reject(number) => self.decide_by(number, false),
            Slash::Room(number) => self.show(number - 1),
            Slash::GiveUp => self.give_up(),
            Slash::Quit => self.is_done = true,
        }
    }

    fn invite(&mut self, count: u32, lifetime: Duration) {
        let Some(room) = self.room() else {
            return self.say("you are in no room");
        };
        if !room.permission().is_some_and(Permission::can_admin) {
            return self.say("only who administers the room lets others in");
        }
        let room = room.id;
        self.commands.push_back(Command::Invite {
            room,
            count,
            lifetime,
        });
        (self.panel, self.panel_at) = (Some(Panel::Invite), 0);
    }

    fn uninvite(&mut self) {
        match self.room().map(|room| room.id) {
            Some(room) => self.commands.push_back(Command::Uninvite(room)),
            None => self.say("you are in no room"),
        }
    }

    fn give_up(&mut self) {
        match self.tab() {
            Some(Tab {
                id,
                content: Content::Joining { .. },
                ..
            }) => {
                self.commands.push_back(Command::GiveUp(*id));
                self.tabs.remove(self.current);
                self.current = self.current.min(self.tabs.len().saturating_sub(1));
            }
            _ => self.say("there is nothing to give up: you are in this room"),
        }
    }

    /// Decides on the request that is chosen, if they are shown.
    fn decide(&mut self, let_in: bool) {
        match self.panel {
            Some(Panel::Requests) => self.decide_on(self.panel_at, let_in),
            _ => self.toggle(Panel::Requests),
        }
    }

    /// Decides on the request of this number, from 1, unless the number meant another one when it was typed.
    fn decide_by(&mut self, number: usize, let_in: bool) {
        let at = number - 1;
        let now = self.requests.get(at).map(|request| request.id);
        if now.is_some() && now != self.numbered.get(at).copied() {
            self.panel = None;
            self.toggle(Panel::Requests);
            return self.say("the list has changed meanwhile: look again");
        }
        self.decide_on(at, let_in);
    }

    fn decide_on(&mut self, at: usize, let_in: bool) {
        let Some(request) = self.requests.get(at) else {
            return self.say("nobody asks to join");
        };
        let id = request.id;
        self.commands.push_back(if let_in {
            Command::Approve(id)
        } else {
            Command::Reject(id)
        });
    }
}

/// News.
impl App {
    fn news(&mut self, news: News) {
        match news {
            News::Room(room) => self.update(room),
            News::Peers { room, peers } => {
                if let Some(tab) = self.tabs.iter_mut().find(|tab| tab.id == room) {
                    tab.peers = peers;
                    tab.transcript = None;
                }
            }
            News::Invited { room, invitation } => {
                if let Some(tab) = self.tabs.iter_mut().find(|tab| tab.id == room) {
                    tab.invitation = invitation;
                }
            }
            News::Joining { at, state } => {
                let id = at.room();
                let tab = self.find_or_add(id, || Content::Joining {
                    at: at.clone(),
                    state: state.clone(),
                });
                if tab.room().is_none() {
                    tab.content = Content::Joining { at, state };
                } else if let Joining::Unreachable(why) | Joining::Failed(why) = state {
                    self.say(why);
                }
            }
            News::Requests(requests) => self.take_requests(requests),
            News::Show(id) => {
                self.wanted = Some(id);
                self.show_wanted();
            }
            News::Notice(notice) => self.notice = Some(notice),
        }
    }

    fn update(&mut self, room: Box<RoomView>) {
        let id = room.id;
        let is_seen = self
            .tab()
            .is_some_and(|tab| tab.id == id && tab.scroll == Scroll::Bottom);
        let tab = self.find_or_add(id, || Content::Open(room.clone()));
        if !is_seen && let Some(before) = tab.room() {
            tab.unread += new_messages(before, &room);
        }
        tab.content = Content::Open(room);
        tab.transcript = None;
    }

    /// Takes the requests as they are now. The mark stays on the one that is chosen; if that is gone, none is chosen.
    fn take_requests(&mut self, mut requests: Vec<Request>) {
        let before: BTreeMap<RequestId, usize> = self
            .requests
            .iter()
            .enumerate()
            .map(|(at, request)| (request.id, at))
            .collect();
        let place = |request: &Request| before.get(&request.id).copied().unwrap_or(usize::MAX);
        requests.sort_by_key(place);
        let before = std::mem::replace(&mut self.requests, requests);
        if self.panel != Some(Panel::Requests) {
            return;
        }
        if let Some(chosen) = before.get(self.panel_at) {
            match self.requests.iter().position(|now| now.id == chosen.id) {
                Some(at) => self.panel_at = at,
                None => self.panel = None,
            }
        }
    }

    fn show_wanted(&mut self) {
        if let Some(tab) = self.tabs.iter().position(|tab| Some(tab.id) == self.wanted) {
            self.wanted = None;
            self.show(tab);
        }
    }

    fn find_or_add(&mut self, id: Id, content: impl FnOnce() -> Content) -> &mut Tab {
        let at = self
            .tabs
            .iter()
            .position(|tab| tab.id == id)
            .unwrap_or(self.tabs.len());
        if at == self.tabs.len() {
            self.tabs.push(Tab::new(id, content()));
            self.show_wanted();
        }
        // It was found, or pushed just now.
        #[expect(clippy::indexing_slicing, reason = "in bounds by the lines above")]
        &mut self.tabs[at]
    }
}

/// Messages of others that were not there before, older pages apart.
fn new_messages(before: &RoomView, now: &RoomView) -> usize {
    let oldest = before.messages.first().map(|message| message.stamp);
    let is_new = |message: &&crate::model::Message| {
        message.author != now.own_key
            && Some(message.stamp) >= oldest
            && !before.messages.iter().any(|known| known.key == message.key)
    };
    now.messages.iter().filter(is_new).count()
}

impl Tab {
    fn new(id: Id, content: Content) -> Self {
        Self {
            id,
            content,
            peers: Vec::new(),
            invitation: None,
            unread: 0,
            scroll: Scroll::Bottom,
            draft: Input::default(),
            transcript: None,
        }
    }

    /// The room, if it is here.
    pub(crate) fn room(&self) -> Option<&RoomView> {
        match &self.content {
            Content::Open(room) => Some(room),
            Content::Joining { .. } => None,
        }
    }

    /// Own messages that some other device lacks.
    pub(crate) fn undelivered(&self) -> usize {
        let own = self.room().into_iter().flat_map(|room| {
            room.messages
                .iter()
                .filter(|message| message.author == room.own_key)
        });
        own.filter(|message| delivery(message.stamp.height, &self.peers) != Delivery::All)
            .count()
    }

    fn transcript(&mut self, width: u16, zone: &TimeZone) -> Option<&Transcript> {
        let Content::Open(room) = &self.content else {
            return None;
        };
        if self
            .transcript
            .as_ref()
            .is_none_or(|transcript| transcript.width() != width)
        {
            self.transcript = Some(Transcript::new(room, &self.peers, width, zone));
        }
        self.transcript.as_ref()
    }

    /// Scrolls what was drawn; the room's id if older messages are wanted.
    fn scroll_by(&mut self, by: isize, rows: usize) -> Option<Id> {
        let transcript = self.transcript.as_ref()?;
        self.scroll = transcript.scrolled(self.scroll, by, rows);
        if self.scroll == Scroll::Bottom {
            self.unread = 0;
        }
        let is_at_top = by > 0 && transcript.is_at_top(self.scroll, rows);
        let can_get_more = self
            .room()
            .is_some_and(|room| room.has_more && room.messages.len() < limits::MESSAGES);
        (is_at_top && can_get_more).then_some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, key, message, request, room};

    fn app() -> App {
        App::new(&key(1), "in memory".to_owned(), TimeZone::UTC)
    }

    /// These requests wait now; they are told by id.
    fn asked(app: &mut App, requests: &[u8]) {
        let requests = requests.iter().copied().map(request).collect();
        app.handle(Event::News(News::Requests(requests)));
    }

    fn numbers(app: &App) -> Vec<u8> {
        let ids = app.requests.iter().map(|request| request.id);
        ids.map(|id| (1..=9).find(|n| request(*n).id == id).unwrap())
            .collect()
    }

    /// An app in two rooms, with the first one shown.
    fn in_rooms() -> App {
        let mut app = app();
        app.handle(Event::News(News::Room(room(
            8,
            "Tea",
            vec![message(1, 2, "hello")],
        ))));
        app.handle(Event::News(News::Room(room(9, "Cake", vec![]))));
        app
    }

    fn press(app: &mut App, modifiers: KeyModifiers, code: KeyCode) {
        app.handle(Event::Key(KeyEvent::new(code, modifiers)));
    }

    fn enter(app: &mut App, text: &str) {
        text.chars()
            .for_each(|c| press(app, KeyModifiers::NONE, KeyCode::Char(c)));
        press(app, KeyModifiers::NONE, KeyCode::Enter);
    }

    fn sent(app: &mut App) -> Vec<Command> {
        std::iter::from_fn(|| app.poll_command()).collect()
    }

    #[test]
    fn every_letter_can_be_typed_and_is_sent() {
        let mut app = in_rooms();
        let text = "qQ hjkl? yn áß日本 👍 {}[]\\~@";
        enter(&mut app, text);
        assert_eq!(
            sent(&mut app),
            [Command::Send {
                room: id(8),
                text: text.into()
            }]
        );
        let alt_gr = KeyModifiers::CONTROL | KeyModifiers::ALT;
        press(&mut app, alt_gr, KeyCode::Char('q'));
        assert_eq!(app.input.text(), "q");
        assert!(!app.is_done && app.panel.is_none());
    }

    #[test]
    fn lines_are_pasted_and_not_sent_one_by_one() {
        let mut app = in_rooms();
        app.handle(Event::Paste("one\r\ntwo\rthree".into()));
        assert!(sent(&mut app).is_empty());
        press(&mut app, KeyModifiers::ALT, KeyCode::Enter);
        enter(&mut app, "four");
        assert_eq!(
            sent(&mut app),
            [Command::Send {
                room: id(8),
                text: "one\ntwo\nthree\nfour".into()
            }]
        );
    }

    #[test]
    fn what_cannot_be_sent_stays() {
        let mut app = app();
        enter(&mut app, "hello");
        assert!(app.notice.as_ref().unwrap().contains("/create"));
        assert_eq!(app.input.text(), "hello");
        let mut app = in_rooms();
        app.handle(Event::Paste("x".repeat(limits::MESSAGE_BYTES + 1)));
        enter(&mut app, "");
        assert!(app.notice.take().unwrap().contains("too long"));
        press(&mut app, KeyModifiers::NONE, KeyCode::Backspace);
        enter(&mut app, "");
        assert_eq!(sent(&mut app).len(), 1);
        let mut read_only = room(8, "Tea", vec![]);
        read_only.members.remove(0);
        app.handle(Event::News(News::Room(read_only)));
        enter(&mut app, "hello");
        assert!(app.notice.unwrap().contains("read"));
    }

    #[test]
    fn each_room_keeps_what_is_typed_for_it() {
        let mut app = in_rooms();
        app.handle(Event::Paste("for tea".into()));
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('n'));
        assert_eq!((app.current, app.input.text()), (1, ""));
        enter(&mut app, "for cake");
        assert_eq!(
            sent(&mut app),
            [Command::Send {
                room: id(9),
                text: "for cake".into()
            }]
        );
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('p'));
        assert_eq!((app.current, app.input.text()), (0, "for tea"));
        press(&mut app, KeyModifiers::ALT, KeyCode::Char('2'));
        press(&mut app, KeyModifiers::ALT, KeyCode::Char('7'));
        assert_eq!(app.current, 1);
    }

    #[test]
    fn messages_that_nobody_saw_are_counted() {
        let mut app = in_rooms();
        let more = vec![
            message(1, 2, "hello"),
            message(2, 1, "mine"),
            message(3, 2, "again"),
        ];
        app.handle(Event::News(News::Show(id(9))));
        app.handle(Event::News(News::Room(room(8, "Tea", more))));
        assert_eq!((app.tabs[0].unread, app.tabs[1].unread), (1, 0));
        app.handle(Event::News(News::Show(id(8))));
        assert_eq!(app.tabs[0].unread, 0);
    }

    #[test]
    fn a_room_is_shown_when_it_comes() {
        let mut app = in_rooms();
        app.handle(Event::News(News::Show(id(7))));
        assert_eq!(app.current, 0);
        app.handle(Event::News(News::Room(room(7, "New", vec![]))));
        assert_eq!(app.current, 2);
    }

    #[test]
    fn older_messages_are_asked_for_at_the_top() {
        let mut app = app();
        let messages: Vec<_> = (1..=50).map(|n| message(n, 2, "text")).collect();
        let mut view = room(8, "Tea", messages);
        view.has_more = true;
        app.handle(Event::News(News::Room(view)));
        app.rows = 10;
        app.transcript(40).unwrap();
        press(&mut app, KeyModifiers::NONE, KeyCode::PageUp);
        assert!(sent(&mut app).is_empty());
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Home);
        assert_eq!(sent(&mut app), [Command::More(id(8))]);
        press(&mut app, KeyModifiers::NONE, KeyCode::Esc);
        assert_eq!(app.tab().unwrap().scroll, Scroll::Bottom);
    }

    #[test]
    fn requests_are_decided_by_keys_or_by_number() {
        let mut app = in_rooms();
        let ids = [1, 2].map(|n| request(n).id);
        asked(&mut app, &[1, 2]);
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('y'));
        assert_eq!((app.panel, sent(&mut app)), (Some(Panel::Requests), vec![]));
        press(&mut app, KeyModifiers::NONE, KeyCode::Down);
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('x'));
        assert_eq!(sent(&mut app), [Command::Reject(ids[1])]);
        enter(&mut app, "/approve");
        assert_eq!(sent(&mut app), [Command::Approve(ids[0])]);
        asked(&mut app, &[]);
        enter(&mut app, "/approve");
        assert!(sent(&mut app).is_empty() && app.notice.is_some());
    }

    #[test]
    fn the_mark_stays_on_the_request_that_was_chosen() {
        let mut app = in_rooms();
        asked(&mut app, &[5, 6]);
        press(&mut app, KeyModifiers::ALT, KeyCode::Char('r'));
        press(&mut app, KeyModifiers::NONE, KeyCode::Down);
        // Others come whose ids are lower, and the one above is withdrawn.
        asked(&mut app, &[1, 2, 5, 6, 7]);
        assert_eq!(numbers(&app), [5, 6, 1, 2, 7]);
        asked(&mut app, &[1, 2, 6, 7]);
        assert_eq!((numbers(&app), app.panel_at), (vec![6, 1, 2, 7], 0));
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('y'));
        assert_eq!(sent(&mut app), [Command::Approve(request(6).id)]);
        // Once it is gone, nobody else is marked.
        asked(&mut app, &[1, 2, 7]);
        assert_eq!(app.panel, None);
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('y'));
        assert_eq!((app.panel, sent(&mut app)), (Some(Panel::Requests), vec![]));
    }

    #[test]
    fn the_mark_does_not_run_past_the_end() {
        let mut app = in_rooms();
        asked(&mut app, &[1, 2, 3]);
        press(&mut app, KeyModifiers::ALT, KeyCode::Char('r'));
        (0..9).for_each(|_| press(&mut app, KeyModifiers::NONE, KeyCode::Down));
        press(&mut app, KeyModifiers::NONE, KeyCode::Up);
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('y'));
        assert_eq!(sent(&mut app), [Command::Approve(request(2).id)]);
        // The first line of another panel is not a request.
        press(&mut app, KeyModifiers::NONE, KeyCode::F(1));
        (0..5).for_each(|_| press(&mut app, KeyModifiers::NONE, KeyCode::Down));
        asked(&mut app, &[1]);
        assert_eq!((app.panel, app.panel_at), (Some(Panel::Help), 5));
    }

    #[test]
    fn a_number_means_what_it_meant_when_it_was_typed() {
        let mut app = in_rooms();
        asked(&mut app, &[5, 6]);
        app.handle(Event::Paste("/approve 1".into()));
        asked(&mut app, &[6]);
        press(&mut app, KeyModifiers::NONE, KeyCode::Enter);
        assert_eq!((app.panel, sent(&mut app)), (Some(Panel::Requests), vec![]));
        assert!(app.notice.as_ref().unwrap().contains("changed"));
        enter(&mut app, "/approve 1");
        assert_eq!(sent(&mut app), [Command::Approve(request(6).id)]);
        // Nor does a line count that was left standing in another room.
        app.handle(Event::Paste("/approve 1".into()));
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('n'));
        asked(&mut app, &[4]);
        press(&mut app, KeyModifiers::CONTROL, KeyCode::Char('p'));
        press(&mut app, KeyModifiers::NONE, KeyCode::Enter);
        assert!(sent(&mut app).is_empty());
        // Whoever comes meanwhile changes no number.
        app.handle(Event::Paste("/reject".into()));
        asked(&mut app, &[3, 4]);
        press(&mut app, KeyModifiers::NONE, KeyCode::Enter);
        assert_eq!(sent(&mut app), [Command::Reject(request(4).id)]);
    }

    #[test]
    fn who_administers_a_room_invites_to_it() {
        let mut app = in_rooms();
        enter(&mut app, "/invite 3 7d");
        assert!(sent(&mut app).is_empty() && app.panel.is_none());
        assert!(app.notice.take().unwrap().contains("administers"));
        let mut view = room(8, "Tea", vec![]);
        view.members[0].permission = Some(Permission::Admin(0));
        app.handle(Event::News(News::Room(view)));
        enter(&mut app, "/invite 3 7d");
        let invite = Command::Invite {
            room: id(8),
            count: 3,
            lifetime: Duration::from_secs(7 * 24 * 3_600),
        };
        assert_eq!(
            (sent(&mut app), app.panel),
            (vec![invite], Some(Panel::Invite))
        );
        enter(&mut app, "/uninvite");
        assert_eq!(sent(&mut app), [Command::Uninvite(id(8))]);
    }

    #[test]
    fn joining_ends_in_a_room_or_is_given_up() {
        let mut app = app();
        let at: RoomAddress = format!("{}@127.0.0.1:4950", id(8)).parse().unwrap();
        enter(&mut app, &format!("/join {at}"));
        assert_eq!(sent(&mut app), [Command::Join(at.clone())]);
        let joining = |state| {
            Event::News(News::Joining {
                at: at.clone(),
                state,
            })
        };
        app.handle(joining(Joining::Waiting));
        enter(&mut app, "hello?");
        assert!(sent(&mut app).is_empty() && app.room().is_none());
        app.input.take();
        enter(&mut app, "/giveup");
        assert_eq!(
            (sent(&mut app), app.tabs.len()),
            (vec![Command::GiveUp(id(8))], 0)
        );
        app.handle(joining(Joining::Connecting));
        app.handle(Event::News(News::Room(room(8, "Tea", vec![]))));
        assert_eq!(
            (app.tabs.len(), app.room().unwrap().name.as_str()),
            (1, "Tea")
        );
        app.handle(joining(Joining::Unreachable("gone".into())));
        assert!(app.room().is_some() && app.notice.is_some());
    }
}
