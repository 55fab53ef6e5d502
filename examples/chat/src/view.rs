//! Draws the state on a screen.

use eidetica::auth::Permission;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use qrcode::{Color as Module, EcLevel, QrCode};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use unicode_width::UnicodeWidthStr;

use crate::address::RoomAddress;
use crate::app::{App, Content, Panel, Tab};
use crate::glyphs::{Glyph, one_line, shorten, wrap};
use crate::limits;
use crate::model::{Joining, Request, RoomView};
use crate::names::Names;
use crate::slash::HELP;
use crate::transcript::{Scroll, name_style, spans};

/// Columns of the list of rooms, and of the screen from which on it is shown.
const SIDE: u16 = 22;
const WIDE: u16 = 80;

/// Most rows of what is being typed.
const INPUT_ROWS: usize = 5;

const PROMPT: &str = "> ";

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    let (columns, rows) = limits::SCREEN;
    if area.width < columns || area.height < rows {
        let text = format!("too small: {columns}×{rows} needed, Ctrl-C ends");
        return frame.render_widget(
            Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }),
            area,
        );
    }
    let typed = Typed::new(app, area.width);
    let input_rows = u16::try_from(typed.lines.len()).unwrap_or(1);
    let parts = [
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(input_rows),
        Constraint::Length(1),
    ];
    let [title_area, middle, notice_area, input_area, hints_area] =
        Layout::vertical(parts).areas(area);
    frame.render_widget(title(app, area.width), title_area);
    let has_side = area.width >= WIDE && app.tabs.len() > 1;
    let [side_area, main] = Layout::horizontal([
        Constraint::Length(if has_side { SIDE } else { 0 }),
        Constraint::Fill(1),
    ])
    .areas(middle);
    if has_side {
        side(frame, app, side_area);
    }
    body(frame, app, main);
    frame.render_widget(notice(app, area.width), notice_area);
    typed.draw(frame, input_area);
    frame.render_widget(hints(app, area.width), hints_area);
}

fn title(app: &App, width: u16) -> Paragraph<'static> {
    let width = usize::from(width);
    let right = title_right(app);
    let number = match app.tabs.len() {
        0 | 1 => String::new(),
        tabs => format!(" ({}/{tabs})", app.current + 1),
    };
    let elsewhere: usize = app
        .tabs
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != app.current)
        .map(|(_, tab)| tab.unread)
        .sum();
    let unread = if elsewhere == 0 {
        String::new()
    } else {
        format!(" {elsewhere} new elsewhere")
    };
    let room = width.saturating_sub(right.width() + number.width() + unread.width() + 3);
    let name = shorten(&app.tab().map_or("Eidetica chat".to_owned(), name_of), room);
    let left = format!(" {name}{number}");
    let space = width.saturating_sub(left.width() + unread.width() + right.width() + 1);
    let line = Line::from(vec![
        left.bold(),
        unread.yellow(),
        " ".repeat(space).into(),
        right.into(),
        " ".into(),
    ]);
    Paragraph::new(line).style(Style::new().fg(Color::White).bg(Color::DarkGray))
}

/// Who is here, and whether they have it all.
fn title_right(app: &App) -> String {
    let Some(tab) = app.tab() else {
        return String::new();
    };
    let Some(room) = tab.room() else {
        return "not joined".to_owned();
    };
    let people = counted(
        room.members
            .iter()
            .filter(|member| member.permission.is_some())
            .count(),
        "member",
        "members",
    );
    let is_online = tab.peers.iter().any(|peer| peer.is_connected);
    let connected = match (tab.peers.is_empty(), is_online) {
        (true, _) => ", no peers yet",
        (false, false) => ", offline",
        (false, true) => "",
    };
    match tab.undelivered() {
        waiting if waiting > 0 && !tab.peers.is_empty() => {
            format!("{people}{connected}, {waiting} undelivered")
        }
        _ => format!("{people}{connected}"),
    }
}

fn side(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let block = Block::new()
        .borders(Borders::RIGHT)
        .border_style(Style::new().dim());
    let inside = block.inner(area);
    let width = usize::from(inside.width);
    let lines = app.tabs.iter().enumerate().map(|(at, tab)| {
        let unread = if tab.unread == 0 {
            String::new()
        } else {
            format!(" {}", tab.unread)
        };
        let name = shorten(&name_of(tab), width.saturating_sub(unread.width() + 3));
        let line = Line::from(vec![
            format!("{} {name}", at + 1).into(),
            unread.yellow().bold(),
        ]);
        if at == app.current {
            line.reversed()
        } else {
            line
        }
    });
    let lines: Vec<Line<'_>> = lines.collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn name_of(tab: &Tab) -> String {
    match &tab.content {
        Content::Open(room) if !room.name.trim().is_empty() => one_line(&room.name),
        _ => format!(
            "room {}",
            tab.id
                .to_string()
                .chars()
                .take(limits::FINGERPRINT)
                .collect::<String>()
        ),
    }
}

fn body(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    app.rows = usize::from(area.height);
    if let Some(panel) = app.panel {
        return panel_lines(frame, app, panel, area);
    }
    let scroll = app.tab().map(|tab| tab.scroll).unwrap_or_default();
    let rows = app.rows;
    let lines = match app.transcript(area.width) {
        Some(transcript) => transcript.visible(scroll, rows).to_vec(),
        None => waiting(app, area.width),
    };
    let lines = if lines.is_empty() {
        wrapped("No messages yet. Say something.", area.width)
    } else {
        lines
    };
    // The newest line stands right above what is typed.
    let used = u16::try_from(lines.len())
        .unwrap_or(area.height)
        .min(area.height);
    let [_, bottom] = Layout::vertical([Constraint::Fill(1), Constraint::Length(used)]).areas(area);
    frame.render_widget(Paragraph::new(lines), bottom);
}

/// What is said in the place of messages while there are none to show.
fn waiting(app: &App, width: u16) -> Vec<Line<'static>> {
    let Some(tab) = app.tab() else {
        return wrapped(
            "You are in no room. Make one with /create NAME, or join one with /join ADDRESS.",
            width,
        );
    };
    let Content::Joining { at, state } = &tab.content else {
        return Vec::new();
    };
    let text = match state {
        Joining::Connecting => format!("Connecting to {} …", at.place()),
        Joining::Waiting => format!(
            "Waiting to be let in: an administrator of the room has to approve it. They see the beginning of your key: {}",
            app.fingerprint
        ),
        Joining::Unreachable(why) => format!(
            "Cannot reach {}: {why}\n\nIt is tried again, until you /giveup.",
            at.place()
        ),
        Joining::Failed(why) => {
            format!("Not joined: {why}\n\n/giveup closes this; /join ADDRESS tries again.")
        }
    };
    wrapped(&text, width)
}

fn panel_lines(frame: &mut Frame<'_>, app: &mut App, panel: Panel, area: Rect) {
    let lines = match (panel, app.room()) {
        (Panel::Help, _) => help(area.width),
        (Panel::Requests, _) => requests(app, area.width),
        (Panel::Invite, Some(room)) => invite(app, room, area),
        (Panel::People, Some(room)) => people(room, area.width),
        (Panel::Invite | Panel::People, None) => wrapped("You are in no room.", area.width),
    };
    let most = lines.len().saturating_sub(usize::from(area.height));
    let first = match panel {
        // As far as needed for the one that is marked.
        Panel::Requests => {
            let above = lines.len().saturating_sub(app.requests.len());
            (above + app.panel_at + 1).saturating_sub(usize::from(area.height))
        }
        _ => {
            app.panel_at = app.panel_at.min(most);
            app.panel_at
        }
    };
    frame.render_widget(
        Paragraph::new(lines.into_iter().skip(first).collect::<Vec<_>>()),
        area,
    );
}

fn help(width: u16) -> Vec<Line<'static>> {
    let column =
        |text: fn(&(&str, &str, &str)) -> usize| HELP.iter().map(text).max().unwrap_or(0) + 2;
    let (first, second) = (column(|line| line.0.len()), column(|line| line.1.len()));
    let is_narrow = first + second + 40 > usize::from(width);
    let lines = HELP.iter().flat_map(|(typed, keys, what)| {
        if is_narrow {
            let name = [*typed, *keys].join(" ").trim().to_owned();
            vec![Line::from(name.bold()), Line::from(format!("  {what}"))]
        } else {
            vec![Line::from(vec![
                format!("{typed:first$}").bold(),
                format!("{keys:second$}").cyan(),
                (*what).into(),
            ])]
        }
    });
    let marks = [
        ("·".yellow(), " nobody has it yet"),
        ("+".cyan(), " some have it"),
        ("✓".green(), " all have it"),
    ];
    let before = "Before your messages: ";
    let marks = if is_narrow {
        let marks = marks.map(|(mark, what)| Line::from(vec![mark, what.into()]));
        [vec![Line::from(before)], marks.to_vec()].concat()
    } else {
        let marks = marks
            .into_iter()
            .flat_map(|(mark, what)| [mark, what.into(), "  ".into()]);
        vec![Line::from_iter(std::iter::once(before.into()).chain(marks))]
    };
    lines.chain([Line::default()]).chain(marks).collect()
}

fn requests(app: &App, width: u16) -> Vec<Line<'static>> {
    if app.requests.is_empty() {
        return wrapped("Nobody asks to join.", width);
    }
    let mut lines = wrapped(
        "Ctrl-Y lets in, Ctrl-X refuses the one that is marked. The name is what they call themselves: ask them for the beginning of their key.",
        width,
    );
    lines.push(Line::default());
    for (at, request) in app.requests.iter().enumerate() {
        let text = format!("{} {}", at + 1, asking(app, request));
        let line = Line::from(shorten(&text, usize::from(width)));
        lines.push(if at == app.panel_at {
            line.reversed()
        } else {
            line
        });
    }
    lines
}

/// Who asks for what.
pub(crate) fn asking(app: &App, request: &Request) -> String {
    let tab = app.tabs.iter().find(|tab| tab.id == request.room);
    let members = tab
        .and_then(Tab::room)
        .map(|room| room.members.as_slice())
        .unwrap_or_default();
    let name = Names::new(members).newcomer(&request.key, &request.name);
    let what = match request.permission {
        Permission::Read => "asks to read",
        Permission::Write(_) => "asks to join",
        Permission::Admin(_) => "asks to ADMINISTER",
    };
    let room = tab.map_or_else(|| "a room".to_owned(), name_of);
    format!("{name} {what} {room}")
}

fn people(room: &RoomView, width: u16) -> Vec<Line<'static>> {
    let names = Names::new(&room.members);
    let mut lines = Vec::new();
    for member in &room.members {
        let name = names.get(&member.key);
        let may = match member.permission {
            Some(Permission::Admin(_)) => "administers",
            Some(Permission::Write(_)) => "writes",
            Some(Permission::Read) => "reads",
            None => "left",
        };
        let you = if member.key == room.own_key {
            ", you"
        } else {
            ""
        };
        let style = name_style(&name, &member.key);
        lines.push(Line::from(vec![
            Span::styled(name.to_string(), style),
            format!("  {may}{you}").into(),
        ]));
        lines.extend(
            wrapped(&format!("  {}", member.key), width)
                .into_iter()
                .map(Stylize::dim),
        );
    }
    lines
}

/// The address in letters, and as a QR code where that fits; an invite if there is one.
fn invite(app: &App, room: &RoomView, area: Rect) -> Vec<Line<'static>> {
    let Some(address) = &room.address else {
        return wrapped("Nobody can dial this device.", area.width);
    };
    if let Some(invitation) = app.tab().and_then(|tab| tab.invitation.as_ref()) {
        let until = moment(invitation.expires_ms, &app.zone);
        let who = counted(invitation.left as usize, "more person", "more people");
        let text = format!(
            "Whoever has this ticket is let in: {who}, until {until}. It is a secret. /uninvite takes it back."
        );
        return handed_over(&invitation.ticket, &[&invitation.ticket], &text, area);
    }
    let text = match room.permission().is_some_and(Permission::can_admin) {
        true => {
            "You are asked about whoever comes. /invite 3 7d lets three in unasked, within 7 days."
        }
        false => "Somebody who administers the room has to let them in.",
    };
    // The ticket names the device that has to answer; the plain address is a smaller code.
    let codes: Vec<&RoomAddress> = room.ticket.iter().chain(&room.address).collect();
    handed_over(address, &codes, text, area)
}

/// An address in letters, and the first of the codes that fits.
fn handed_over(
    address: &RoomAddress,
    codes: &[&RoomAddress],
    text: &str,
    area: Rect,
) -> Vec<Line<'static>> {
    let mut lines = wrapped(&address.to_string(), area.width);
    lines.extend(wrapped(text, area.width).into_iter().map(Stylize::dim));
    let (rows, columns) = (usize::from(area.height), usize::from(area.width));
    let width = |code: &Vec<Line<'_>>| code.first().map_or(0, Line::width);
    let fits = |code: &&Vec<Line<'_>>| code.len() + lines.len() <= rows && width(code) <= columns;
    let codes: Vec<_> = codes
        .iter()
        .filter_map(|code| qr(&code.to_qr_text()))
        .collect();
    match (
        codes.iter().find(fits),
        codes.iter().min_by_key(|code| code.len()),
    ) {
        (Some(code), _) => lines.extend(code.clone()),
        (None, Some(code)) => {
            let more = (code.len() + lines.len() + 1).saturating_sub(rows);
            let hint = match width(code).saturating_sub(columns) {
                0 => format!("\nWith {more} more rows there is a QR code too."),
                more => format!("\nWith {more} more columns there is a QR code too."),
            };
            lines.extend(wrapped(&hint, area.width).into_iter().map(Stylize::dim));
        }
        (None, None) => {}
    }
    lines
}

/// A time as people say it.
fn moment(ms: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| {
        at.to_zoned(zone.clone())
            .strftime("%A, %-d %B, %H:%M")
            .to_string()
    })
}

/// A QR code, two modules to a character, dark on light whatever the terminal's colours are.
fn qr(text: &str) -> Option<Vec<Line<'static>>> {
    /// Modules of light around it.
    const MARGIN: usize = 2;
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (width, colors) = (code.width(), code.to_colors());
    let is_dark = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < width);
        let at = inside(x).zip(inside(y)).map(|(x, y)| y * width + x);
        at.and_then(|at| colors.get(at)) == Some(&Module::Dark)
    };
    let line = |y: usize| {
        let columns = (0..width + 2 * MARGIN).map(|x| match (is_dark(x, y), is_dark(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        Line::styled(
            columns.collect::<String>(),
            Style::new().fg(Color::Black).bg(Color::White),
        )
    };
    Some((0..width + 2 * MARGIN).step_by(2).map(line).collect())
}

/// One line: what went wrong, else who wants something, else what is below the screen.
fn notice(app: &App, width: u16) -> Line<'static> {
    let width = usize::from(width).saturating_sub(2);
    if let Some(notice) = &app.notice {
        return Line::from(format!(" {}", shorten(notice, width))).yellow();
    }
    if let (Some(request), None) = (app.requests.first(), app.panel) {
        let more = match app.requests.len() {
            1 => String::new(),
            all => format!(" and {} more", all - 1),
        };
        let text = shorten(
            &asking(app, request),
            width.saturating_sub(more.width() + 9),
        );
        return Line::from(format!(" {text}{more} (Alt-R)")).green();
    }
    match app.tab() {
        Some(tab) if tab.scroll != Scroll::Bottom => {
            let new = if tab.unread == 0 {
                String::new()
            } else {
                format!("{} new, ", tab.unread)
            };
            Line::from(format!(" ↓ {new}Esc goes to the end")).cyan()
        }
        _ => Line::default(),
    }
}

/// The keys that help now, and where the data is: as much as there is room for.
fn hints(app: &App, width: u16) -> Line<'static> {
    let (keys, few) = match app.panel {
        Some(Panel::Requests) => (
            "Ctrl-Y let in  Ctrl-X refuse  Esc back",
            "Ctrl-Y in  Ctrl-X out  Esc",
        ),
        Some(_) => ("Up Down scroll  Esc back", "Up Down  Esc back"),
        None => ("F1 help  Alt-I invite  Ctrl-C quit", "F1 help  Ctrl-C quit"),
    };
    let all = format!(" {keys}   {}", one_line(&app.storage));
    let texts = [all, format!(" {keys}"), format!(" {few}")];
    let fits = |text: &String| text.width() <= usize::from(width);
    Line::from(texts.into_iter().find(fits).unwrap_or_default()).dim()
}

fn wrapped(text: &str, width: u16) -> Vec<Line<'static>> {
    wrap(text, usize::from(width))
        .iter()
        .map(|line| Line::from(spans(line)))
        .collect()
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What is being typed, as far as it is shown.
struct Typed {
    lines: Vec<Line<'static>>,
    cursor: Position,
}

impl Typed {
    fn new(app: &App, width: u16) -> Self {
        let width = usize::from(width).saturating_sub(PROMPT.width() + 1);
        let rows = wrap(app.input.text(), width);
        let (row, column) = cursor(&rows, app.input.cursor());
        let first = (row + 1).saturating_sub(INPUT_ROWS);
        let shown = rows.iter().enumerate().skip(first).take(INPUT_ROWS);
        let lines = shown.map(|(at, row)| {
            let mut line = vec![if at == 0 { PROMPT.bold() } else { "  ".into() }];
            line.extend(spans(row));
            Line::from(line)
        });
        let column = column.min(width) + PROMPT.width();
        Self {
            lines: lines.collect(),
            cursor: Position::new(
                u16::try_from(column).unwrap_or(u16::MAX),
                u16::try_from(row - first).unwrap_or(u16::MAX),
            ),
        }
    }

    fn draw(self, frame: &mut Frame<'_>, area: Rect) {
        frame.render_widget(Paragraph::new(self.lines), area);
        frame.set_cursor_position((area.x + self.cursor.x, area.y + self.cursor.y));
    }
}

/// Row and column of a byte offset.
fn cursor(rows: &[Vec<Glyph<'_>>], at: usize) -> (usize, usize) {
    let mut found = (0, 0);
    for (number, row) in rows.iter().enumerate() {
        let starts_before = row.first().is_none_or(|glyph| glyph.source.start <= at);
        if !starts_before {
            break;
        }
        let before = row.iter().take_while(|glyph| glyph.source.end <= at);
        found = (number, before.map(|glyph| glyph.width).sum());
    }
    found
}

#[cfg(test)]
mod tests {
    use eidetica::Height;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::app::Event;
    use crate::model::{Invitation, Message, News, Peer};
    use crate::testing::{id, key, message, request, room};

    fn app() -> App {
        App::new(
            &key(1),
            "in memory: gone when you leave".to_owned(),
            TimeZone::UTC,
        )
    }

    fn in_room(messages: Vec<Message>) -> App {
        let mut app = app();
        app.handle(Event::News(News::Room(room(8, "Tea", messages))));
        app
    }

    /// The screen's rows, without space at their ends.
    fn screen(app: &mut App, columns: u16, rows: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        let buffer = terminal.backend().buffer();
        (0..rows).map(|y| row(buffer, y)).collect()
    }

    fn row(buffer: &ratatui::buffer::Buffer, y: u16) -> String {
        let (mut text, mut x) = (String::new(), 0);
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            x += u16::try_from(symbol.width()).unwrap().max(1);
        }
        text.trim_end().to_owned()
    }

    #[test]
    fn a_narrow_screen() {
        let mut app = in_room(vec![
            message(1, 2, "to be or not to be, that is the question"),
            message(2, 1, "yes"),
        ]);
        app.handle(Event::News(News::Peers {
            room: id(8),
            peers: vec![Peer {
                device: key(5),
                holds: Some(Height(1)),
                is_connected: true,
            }],
        }));
        app.handle(Event::Paste("typing".into()));
        assert_eq!(
            screen(&mut app, 32, 12),
            [
                " Tea   2 members, 1 undelivered",
                "",
                "",
                "── Saturday, 21 November 2026 ──",
                "bob 02020202  12:01",
                "  to be or not to be, that is",
                "  the question",
                "alice 01010101 you  12:02",
                "· yes",
                "",
                "> typing",
                " F1 help  Ctrl-C quit",
            ]
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut app = in_room(vec![message(
            1,
            2,
            "日本語のとても長い文章です。改行は要りません。終わり。",
        )]);
        let screen = screen(&mut app, 30, 9);
        assert_eq!(
            screen[4..6],
            [
                "  日本語のとても長い文章です。",
                "  改行は要りません。終わり。"
            ]
        );
    }

    #[test]
    fn a_wide_screen_lists_the_rooms() {
        let mut app = in_room(vec![message(1, 2, "hello")]);
        app.handle(Event::News(News::Room(room(
            9,
            "Cake \u{1b}[31m and a very long name",
            vec![],
        ))));
        app.handle(Event::News(News::Room(room(
            9,
            "Cake \u{1b}[31m and a very long name",
            vec![message(1, 2, "x")],
        ))));
        let screen = screen(&mut app, 80, 10);
        assert!(
            screen[0].starts_with(" Tea (1/2) 1 new elsewhere"),
            "{screen:#?}"
        );
        assert!(
            screen[1].starts_with("1 Tea                │"),
            "{screen:#?}"
        );
        assert!(
            screen[2].starts_with("2 Cake \\u{1b}[31m… 1 │"),
            "{screen:#?}"
        );
        assert!(screen[6].contains("│  hello"), "{screen:#?}");
    }

    #[test]
    fn nothing_of_a_stranger_reaches_the_terminal() {
        let nasty = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\u{200b}\u{2028}x\u{0}";
        let mut view = room(8, nasty, vec![message(1, 2, nasty)]);
        view.members[1].name = nasty.to_owned();
        let mut app = app();
        app.handle(Event::News(News::Room(view)));
        app.handle(Event::News(News::Notice(nasty.to_owned())));
        app.handle(Event::News(News::Requests(vec![Request {
            id: "05".repeat(32).parse().unwrap(),
            room: id(8),
            key: key(3),
            name: nasty.to_owned(),
            permission: Permission::Admin(0),
        }])));
        app.handle(Event::Paste(nasty.to_owned()));
        for panel in [
            None,
            Some(Panel::Requests),
            Some(Panel::People),
            Some(Panel::Invite),
            Some(Panel::Help),
        ] {
            app.panel = panel;
            for columns in [30, 80, 200] {
                let shown = screen(&mut app, columns, 30).concat();
                assert!(!shown.contains(eidetica::text::is_unsafe), "{shown:?}");
            }
        }
        app.panel = None;
        assert!(
            screen(&mut app, 200, 30)
                .concat()
                .contains("\\u{1b}]0;owned\\u{7}\\u{9b}2J\\u{202e}")
        );
    }

    #[test]
    fn long_lines_of_the_input_are_wrapped_and_the_cursor_is_in_them() {
        let mut app = in_room(vec![]);
        app.handle(Event::Paste("one two three four five six seven".into()));
        let mut terminal = Terminal::new(TestBackend::new(30, 10)).unwrap();
        terminal.draw(|frame| draw(frame, &mut app)).unwrap();
        assert_eq!(terminal.get_cursor_position().unwrap(), Position::new(7, 8));
        let shown = screen(&mut app, 30, 10);
        assert_eq!(shown[7..9], ["> one two three four five six", "  seven"]);
        app.handle(Event::Paste("\n1\n2\n3\n4\n5\n6".into()));
        let shown = screen(&mut app, 30, 10);
        assert_eq!(shown[4..9], ["  2", "  3", "  4", "  5", "  6"]);
    }

    #[test]
    fn what_is_asked_for_is_said() {
        let mut app = in_room(vec![]);
        let request = |permission, name: &str| Request {
            id: "05".repeat(32).parse().unwrap(),
            room: id(8),
            key: key(3),
            name: name.to_owned(),
            permission,
        };
        let requests = vec![
            request(Permission::Write(0), "carol"),
            request(Permission::Admin(0), "Alice"),
        ];
        app.handle(Event::News(News::Requests(requests)));
        assert!(
            screen(&mut app, 60, 12)[9]
                .contains("carol 03030303 asks to join Tea and 1 more (Alt-R)")
        );
        app.panel = Some(Panel::Requests);
        let shown = screen(&mut app, 60, 12).join("\n");
        assert!(
            shown.contains("2 !Alice 0303030303030303 asks to ADMINISTER Tea"),
            "{shown}"
        );
    }

    #[test]
    fn an_invitation_is_a_code_where_it_fits() {
        let mut app = in_room(vec![]);
        app.panel = Some(Panel::Invite);
        assert!(screen(&mut app, 80, 30).join("").contains('▀'));
        let small = screen(&mut app, 40, 12).join("\n");
        assert!(
            small.contains("more rows") && small.contains("127.0.0.1:4950"),
            "{small}"
        );
    }

    #[test]
    fn an_invite_says_for_whom_and_until_when() {
        let mut view = room(8, "Tea", vec![]);
        view.members[0].permission = Some(Permission::Admin(0));
        let ticket = view.ticket.clone().unwrap();
        let mut app = app();
        app.handle(Event::News(News::Room(view)));
        app.panel = Some(Panel::Invite);
        assert!(screen(&mut app, 80, 30).join("").contains("/invite 3 7d"));
        app.handle(Event::News(News::Invited {
            room: id(8),
            invitation: Some(Invitation {
                ticket: ticket.clone(),
                left: 3,
                expires_ms: 1_795_262_400_000,
            }),
        }));
        let shown = screen(&mut app, 80, 40);
        assert!(shown[1].starts_with("eidetica:") && shown.concat().contains('▀'));
        let text = shown.join(" ");
        assert!(
            text.contains("3 more people, until Saturday, 21 November, 12:00"),
            "{text}"
        );
    }

    #[test]
    fn a_screen_that_is_too_small_says_so() {
        let mut app = in_room(vec![message(1, 2, "hello")]);
        let (columns, rows) = limits::SCREEN;
        assert!(
            screen(&mut app, columns - 1, rows)
                .concat()
                .contains("too small")
        );
        assert!(
            screen(&mut app, columns, rows - 1)
                .concat()
                .contains("too small")
        );
        assert!(screen(&mut app, columns, rows).concat().contains("hello"));
        screen(&mut app, 1, 1);
    }

    #[test]
    fn the_request_that_is_marked_is_on_the_screen() {
        let mut app = in_room(vec![]);
        let requests = (1..=40).map(request).collect();
        app.handle(Event::News(News::Requests(requests)));
        app.panel = Some(Panel::Requests);
        for (at, text) in [(0, "1 asker1 "), (25, "26 asker26 "), (39, "40 asker40 ")] {
            app.panel_at = at;
            let shown = screen(&mut app, 60, 14);
            assert!(shown.iter().any(|line| line.starts_with(text)), "{shown:?}");
        }
    }

    #[test]
    fn the_help_fits_everywhere() {
        let mut app = app();
        app.panel = Some(Panel::Help);
        for columns in [30, 80] {
            app.panel_at = usize::MAX;
            let shown = screen(&mut app, columns, 24).join("\n");
            assert!(
                shown.contains("all have it") || shown.contains("✓"),
                "{shown}"
            );
        }
    }
}
