//! Named limits.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Messages that are read at once; more when somebody scrolls up.
pub(crate) const PAGE: usize = 200;

/// Most messages of a room that are held for the screen.
pub(crate) const MESSAGES: usize = 10_000;

/// Longest message that is sent, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 16 << 10;

/// Characters of a received message that are shown.
pub(crate) const SHOWN_CHARS: usize = 16 << 10;

/// Characters of one cluster (a letter and its marks, an emoji and its parts) that are shown as such.
pub(crate) const CLUSTER_CHARS: usize = 16;

/// The widest glyph in columns: a character that is spelled out, `\u{10ffff}`.
pub(crate) const GLYPH_WIDTH: usize = 10;

/// Hexadecimal digits of a key that are shown beside a name.
pub(crate) const FINGERPRINT: usize = 8;

/// The same where several keys have that name.
pub(crate) const LONG_FINGERPRINT: usize = 16;

/// The smallest screen that the chat is usable on: columns and rows.
pub(crate) const SCREEN: (u16, u16) = (30, 8);

/// Things that wait for the thread that works, and for the screen.
pub(crate) const QUEUE: usize = 256;

/// The pause before somebody who is not there is dialled again, doubled each time.
pub(crate) const DIAL_AGAIN_FIRST: Duration = Duration::from_secs(2);

/// The longest such pause.
pub(crate) const DIAL_AGAIN: Duration = Duration::from_secs(30);

/// How often requests for access and what peers hold are looked at; messages do not wait for this.
pub(crate) const STATUS: Duration = Duration::from_millis(250);

/// For how long an invite holds unless something else is said.
pub(crate) const INVITE: Duration = Duration::from_secs(24 * 3_600);

/// Where the port of a data directory is taken from: those that no service has by name.
pub(crate) const PORTS: RangeInclusive<u16> = 49_152..=65_535;
