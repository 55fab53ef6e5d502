//! A room's messages as lines of a certain width, and which of them are on the screen.

use eidetica::{Height, PublicKey, Stamp};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::glyphs::{Glyph, wrap};
use crate::limits;
use crate::model::{Message, Peer, RoomView};
use crate::names::{Name, Names};

/// Columns before a message's text: how far it got.
const GUTTER: u16 = 2;

/// Messages of one author within so many minutes stand under one name.
const TOGETHER_MINUTES: i64 = 10;

/// The lines of a room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript {
    width: u16,
    lines: Vec<Line<'static>>,
    /// Where each message ends, ascending in both.
    ends: Vec<(Stamp, usize)>,
}

/// What the lowest line on the screen is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scroll {
    /// The newest message, whatever comes.
    #[default]
    Bottom,
    /// The line so far above the end of this message, wherever that moves.
    At { message: Stamp, above: usize },
}

/// How far a message of one's own got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is on this device alone.
    Unsent,
    /// Some of the devices that have the room hold it.
    Some,
    /// All of them do.
    All,
}

/// How far something written here at this height got.
pub(crate) fn delivery(height: Height, peers: &[Peer]) -> Delivery {
    let held = peers
        .iter()
        .filter(|peer| peer.holds >= Some(height))
        .count();
    match held {
        0 => Delivery::Unsent,
        held if held < peers.len() => Delivery::Some,
        _ => Delivery::All,
    }
}

impl Transcript {
    pub(crate) fn new(room: &RoomView, peers: &[Peer], width: u16, zone: &TimeZone) -> Self {
        let names = Names::new(&room.members);
        let mut transcript = Self {
            width,
            ..Self::default()
        };
        let mut before: Option<(&Message, Option<Zoned>)> = None;
        for message in &room.messages {
            let time = time_of(message, zone);
            let (author_before, time_before) = match &before {
                Some((message, time)) => (Some(message.author), time.as_ref()),
                None => (None, None),
            };
            let is_new_day =
                time.is_some() && time_before.map(Zoned::date) != time.as_ref().map(Zoned::date);
            if let Some(time) = time.as_ref().filter(|_| is_new_day) {
                transcript.lines.push(day(time, width));
            }
            let follows = author_before == Some(message.author)
                && !is_new_day
                && soon(time_before, time.as_ref());
            if !follows {
                let is_own = message.author == room.own_key;
                transcript.lines.push(heading(
                    &names.get(&message.author),
                    &message.author,
                    time.as_ref(),
                    is_own,
                ));
            }
            let own =
                (message.author == room.own_key).then(|| delivery(message.stamp.height, peers));
            transcript.lines.extend(body(message, own, width));
            transcript
                .ends
                .push((message.stamp, transcript.lines.len()));
            before = Some((message, time));
        }
        transcript
    }

    pub(crate) fn width(&self) -> u16 {
        self.width
    }

    /// The lines to show in so many rows.
    pub(crate) fn visible(&self, scroll: Scroll, rows: usize) -> &[Line<'static>] {
        let bottom = self.bottom(scroll).max(rows.min(self.lines.len()));
        self.lines
            .get(bottom.saturating_sub(rows)..bottom)
            .unwrap_or_default()
    }

    /// Whether the oldest line is on a screen of so many rows.
    pub(crate) fn is_at_top(&self, scroll: Scroll, rows: usize) -> bool {
        self.bottom(scroll) <= rows
    }

    /// Moves up by some lines, down if negative, on a screen of so many rows.
    pub(crate) fn scrolled(&self, scroll: Scroll, by: isize, rows: usize) -> Scroll {
        let least = rows.min(self.lines.len());
        let bottom = self
            .bottom(scroll)
            .max(least)
            .saturating_add_signed(by.saturating_neg());
        let bottom = bottom.clamp(least, self.lines.len());
        if bottom == self.lines.len() {
            return Scroll::Bottom;
        }
        let message = self
            .ends
            .get(self.ends.partition_point(|(_, end)| *end < bottom));
        message.map_or(Scroll::Bottom, |(message, end)| Scroll::At {
            message: *message,
            above: end - bottom,
        })
    }

    /// The line after the lowest one on the screen.
    fn bottom(&self, scroll: Scroll) -> usize {
        let Scroll::At { message, above } = scroll else {
            return self.lines.len();
        };
        // The message may be gone: then the next one stands for it.
        let at = self.ends.partition_point(|(stamp, _)| *stamp < message);
        self.ends
            .get(at)
            .map_or(self.lines.len(), |(_, end)| end.saturating_sub(above))
    }
}

fn time_of(message: &Message, zone: &TimeZone) -> Option<Zoned> {
    let ms = i64::try_from(message.time_ms?).ok()?;
    Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(zone.clone()))
}

fn soon(before: Option<&Zoned>, now: Option<&Zoned>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before.duration_until(now).as_mins().abs() < TOGETHER_MINUTES,
        _ => true,
    }
}

fn day(time: &Zoned, width: u16) -> Line<'static> {
    let text = format!(" {} ", time.strftime("%A, %-d %B %Y"));
    let dashes = "─".repeat(usize::from(width).saturating_sub(text.len()) / 2);
    Line::styled(format!("{dashes}{text}{dashes}"), Style::new().dim())
}

fn heading(name: &Name, key: &PublicKey, time: Option<&Zoned>, is_own: bool) -> Line<'static> {
    let style = name_style(name, key);
    let mark = if name.is_shared { "!" } else { "" };
    let mut spans = vec![
        Span::styled(
            format!("{mark}{}", name.text),
            style.add_modifier(Modifier::BOLD),
        ),
        Span::styled(
            format!(" {}", name.fingerprint),
            style.add_modifier(Modifier::DIM),
        ),
    ];
    if is_own {
        spans.push(Span::styled(" you", Style::new().dim()));
    }
    if let Some(time) = time {
        spans.push(Span::styled(
            time.strftime("  %H:%M").to_string(),
            Style::new().dim(),
        ));
    }
    spans.into()
}

/// A colour of its own for each key; that of a warning for a name that several keys have.
pub(crate) fn name_style(name: &Name, key: &PublicKey) -> Style {
    const COLORS: [Color; 5] = [
        Color::Cyan,
        Color::Green,
        Color::Magenta,
        Color::Blue,
        Color::Yellow,
    ];
    if name.is_shared {
        return Style::new().fg(Color::Red);
    }
    let number: usize = key.to_string().bytes().map(usize::from).sum();
    Style::new().fg(COLORS
        .get(number % COLORS.len())
        .copied()
        .unwrap_or_default())
}

fn body(message: &Message, own: Option<Delivery>, width: u16) -> Vec<Line<'static>> {
    let (shown, rest) = shown_part(&message.text);
    let mut lines: Vec<Line<'static>> = wrap(shown, usize::from(width.saturating_sub(GUTTER)))
        .into_iter()
        .map(|glyphs| {
            let mut line = vec![Span::raw("  ")];
            line.extend(spans(&glyphs));
            Line::from(line)
        })
        .collect();
    if let Some(mark) = lines.first_mut().and_then(|line| line.spans.first_mut()) {
        *mark = gutter(own);
    }
    if rest > 0 {
        lines.push(Line::styled(
            format!("  … and {rest} more characters"),
            Style::new().dim(),
        ));
    }
    lines
}

fn gutter(own: Option<Delivery>) -> Span<'static> {
    match own {
        None => Span::raw("  "),
        Some(Delivery::Unsent) => Span::styled("· ", Style::new().yellow()),
        Some(Delivery::Some) => Span::styled("+ ", Style::new().cyan()),
        Some(Delivery::All) => Span::styled("✓ ", Style::new().green()),
    }
}

/// As much of a message as is shown, and how many characters are not.
fn shown_part(text: &str) -> (&str, usize) {
    match text.char_indices().nth(limits::SHOWN_CHARS) {
        Some((end, _)) => {
            let (shown, rest) = text.split_at(end);
            (shown, rest.chars().count())
        }
        None => (text, 0),
    }
}

/// What is escaped looks different from text of the same characters.
pub(crate) fn spans(glyphs: &[Glyph<'_>]) -> Vec<Span<'static>> {
    let runs = glyphs.chunk_by(|a, b| a.is_escaped == b.is_escaped);
    runs.map(|run| {
        let text: String = run.iter().map(|glyph| glyph.shown.as_ref()).collect();
        let is_escaped = run.first().is_some_and(|glyph| glyph.is_escaped);
        Span::styled(
            text,
            if is_escaped {
                Style::new().red().dim()
            } else {
                Style::new()
            },
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key, message, room};

    fn text(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    fn transcript(messages: Vec<Message>, peers: &[Peer]) -> Transcript {
        Transcript::new(&room(9, "Demo", messages), peers, 40, &TimeZone::UTC)
    }

    fn peer(n: u8, holds: u64) -> Peer {
        Peer {
            device: key(n),
            holds: Some(Height(holds)),
            is_connected: true,
        }
    }

    #[test]
    fn messages_of_one_author_stand_under_one_name() {
        let messages = vec![
            message(1, 2, "hello"),
            message(2, 2, "you there?"),
            message(3, 1, "yes"),
            message(30, 1, "bye"),
        ];
        let transcript = transcript(messages, &[]);
        let lines = text(transcript.visible(Scroll::Bottom, 20));
        assert_eq!(lines[0], "────── Saturday, 21 November 2026 ──────");
        assert_eq!(lines[1], "bob 02020202  12:01");
        assert_eq!(lines[2..4], ["  hello", "  you there?"]);
        assert_eq!(lines[4..6], ["alice 01010101 you  12:03", "· yes"]);
        assert_eq!(lines[6..8], ["alice 01010101 you  12:30", "· bye"]);
    }

    #[test]
    fn marks_say_who_has_a_message() {
        let messages = vec![message(1, 1, "a"), message(2, 1, "b"), message(3, 1, "c")];
        let lines =
            |peers: &[Peer]| text(transcript(messages.clone(), peers).visible(Scroll::Bottom, 3));
        assert_eq!(lines(&[]), ["· a", "· b", "· c"]);
        assert_eq!(lines(&[peer(5, 2), peer(6, 1)]), ["✓ a", "+ b", "· c"]);
        assert_eq!(
            lines(&[Peer {
                holds: None,
                ..peer(5, 0)
            }]),
            ["· a", "· b", "· c"]
        );
    }

    #[test]
    fn what_is_scrolled_to_stays_where_it_is() {
        let many = |count| {
            (1..=count)
                .map(|n| message(n, 2, &format!("message {n}")))
                .collect()
        };
        let before = transcript(many(50), &[]);
        let scroll = before.scrolled(Scroll::Bottom, 10, 5);
        let seen = text(before.visible(scroll, 5));
        assert_eq!(seen.last().map(String::as_str), Some("  message 40"));
        let after = transcript(many(60), &[]);
        assert_eq!(text(after.visible(scroll, 5)).last(), seen.last());
        let top = after.scrolled(scroll, isize::MAX, 5);
        assert!(after.is_at_top(top, 5) && !after.is_at_top(scroll, 5));
        assert!(text(after.visible(top, 5))[0].contains("Saturday"));
        assert_eq!(after.scrolled(top, -isize::MAX, 5), Scroll::Bottom);
        assert_eq!(
            after.scrolled(after.scrolled(top, 3, 5), -3, 5),
            after.scrolled(top, -3, 5)
        );
    }

    #[test]
    fn a_short_room_does_not_scroll() {
        let short = transcript(vec![message(1, 2, "a")], &[]);
        assert_eq!(short.scrolled(Scroll::Bottom, 5, 20), Scroll::Bottom);
        assert_eq!(short.visible(Scroll::Bottom, 20).len(), 3);
        assert!(
            transcript(Vec::new(), &[])
                .visible(Scroll::Bottom, 20)
                .is_empty()
        );
    }

    #[test]
    fn endless_messages_are_cut() {
        let long = "x".repeat(limits::SHOWN_CHARS + 7);
        let lines = transcript(vec![message(1, 2, &long)], &[]);
        assert_eq!(
            text(lines.visible(Scroll::Bottom, 1)),
            ["  … and 7 more characters"]
        );
    }

    #[test]
    fn a_message_cannot_pass_for_another() {
        let forged = "hi\nalice 01010101  12:02\n  I agree\u{1b}[1A\u{202e}";
        let lines = transcript(vec![message(1, 2, forged)], &[]);
        for line in text(lines.visible(Scroll::Bottom, 20)).iter().skip(2) {
            assert!(line.starts_with("  "), "{line:?}");
            assert!(!line.contains(['\u{1b}', '\u{202e}']));
        }
    }
}
