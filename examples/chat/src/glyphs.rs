//! Text as a terminal shows it: one glyph after the other, strangers' control characters spelled out, lines broken where
//! they do not fit.

use std::borrow::Cow;
use std::ops::Range;

use eidetica::text::{escape, is_unsafe};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::limits;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// The smallest piece of text that is shown whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glyph<'a> {
    /// Where it is in the text.
    pub(crate) source: Range<usize>,
    /// What is shown for it.
    pub(crate) shown: Cow<'a, str>,
    /// Columns.
    pub(crate) width: usize,
    /// Whether the text itself would do something else than be shown.
    pub(crate) is_escaped: bool,
}

impl Glyph<'_> {
    fn is_space(&self) -> bool {
        !self.is_escaped && self.shown.starts_with(' ')
    }

    fn is_line_break(&self) -> bool {
        self.shown == "\n"
    }
}

/// The glyphs of a text. A line break is one of them, of no width.
pub(crate) fn glyphs(text: &str) -> impl Iterator<Item = Glyph<'_>> {
    text.grapheme_indices(true).flat_map(|(at, cluster)| {
        let is_whole = is_line_break(cluster) || cluster == "\t" || is_harmless(cluster);
        let pieces = if is_whole {
            vec![(0, cluster)]
        } else {
            chars(cluster)
        };
        pieces
            .into_iter()
            .map(move |(offset, piece)| glyph(at + offset, piece))
    })
}

/// The same, all on one line: line breaks are spelled out.
pub(crate) fn one_line(text: &str) -> String {
    glyphs(text)
        .map(|glyph| {
            if glyph.is_line_break() {
                "\\n".into()
            } else {
                glyph.shown
            }
        })
        .collect()
}

/// As much of a text as fits into so many columns, with an ellipsis if that is not all.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let text = one_line(text);
    if text.width() <= width {
        return text;
    }
    let mut short = String::new();
    for cluster in text.graphemes(true) {
        if short.width() + cluster.width() + 1 > width {
            break;
        }
        short.push_str(cluster);
    }
    short.push('…');
    short
}

/// The lines of a text in a column of this width: broken between words, and within those that are too long for a line.
/// The space at which a line is broken stays at its end, and may stick out.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<Vec<Glyph<'_>>> {
    let mut lines = Lines {
        width: width.max(limits::GLYPH_WIDTH),
        ..Lines::default()
    };
    for glyph in glyphs(text) {
        lines.push(glyph);
    }
    lines.end_line();
    lines.done
}

/// Lines that are being broken.
#[derive(Default)]
struct Lines<'a> {
    width: usize,
    done: Vec<Vec<Glyph<'a>>>,
    line: Vec<Glyph<'a>>,
    /// Columns of `line`.
    used: usize,
    /// Where the last word of `line` begins.
    word: usize,
}

impl<'a> Lines<'a> {
    fn push(&mut self, glyph: Glyph<'a>) {
        if glyph.is_line_break() {
            return self.end_line();
        }
        while self.used + glyph.width > self.width && !glyph.is_space() && !self.line.is_empty() {
            self.break_line();
        }
        self.used += glyph.width;
        let ends_word = glyph.is_space();
        self.line.push(glyph);
        if ends_word {
            self.word = self.line.len();
        }
    }

    /// Moves the last word to a new line; all of it, if the line has nothing before it.
    fn break_line(&mut self) {
        let word = self.line.split_off(self.word);
        if self.line.is_empty() {
            self.line = word;
            return self.end_line();
        }
        self.end_line();
        self.used = word.iter().map(|glyph| glyph.width).sum();
        self.line = word;
    }

    fn end_line(&mut self) {
        self.done.push(std::mem::take(&mut self.line));
        (self.used, self.word) = (0, 0);
    }
}

fn glyph(at: usize, piece: &str) -> Glyph<'_> {
    let (shown, is_escaped) = match piece {
        piece if is_line_break(piece) => (Cow::Borrowed("\n"), false),
        "\t" => (Cow::Borrowed("    "), false),
        piece if is_harmless(piece) => (Cow::Borrowed(piece), false),
        piece if piece.contains(is_unsafe) => (escape(piece), true),
        piece => (piece.escape_unicode().to_string().into(), true),
    };
    Glyph {
        source: at..at + piece.len(),
        width: if shown == "\n" { 0 } else { shown.width() },
        shown,
        is_escaped,
    }
}

fn is_line_break(cluster: &str) -> bool {
    matches!(cluster, "\n" | "\r\n")
}

/// Whether a terminal shows the cluster, takes a column or two for it, and does nothing else. Emoji are joined by a
/// character that is invisible elsewhere.
fn is_harmless(cluster: &str) -> bool {
    let width = cluster.width();
    let joins = width == 2 && !cluster.ends_with(ZERO_WIDTH_JOINER);
    (1..=2).contains(&width)
        && cluster.chars().count() <= limits::CLUSTER_CHARS
        && !cluster.contains(|c| is_unsafe(c) && !(joins && c == ZERO_WIDTH_JOINER))
}

fn chars(cluster: &str) -> Vec<(usize, &str)> {
    let ends = cluster
        .char_indices()
        .map(|(at, c)| (at, at + c.len_utf8()));
    ends.filter_map(|(start, end)| Some((start, cluster.get(start..end)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, width: usize) -> Vec<String> {
        let shown = |line: Vec<Glyph<'_>>| line.into_iter().map(|glyph| glyph.shown).collect();
        wrap(text, width).into_iter().map(shown).collect()
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(lines("", 20), [""]);
        assert_eq!(
            lines("to be or not to be that", 10),
            ["to be or ", "not to be ", "that"]
        );
        assert_eq!(
            lines("one\n\ntwo\r\nthree", 10),
            ["one", "", "two", "three"]
        );
        assert_eq!(lines("0123456789", 10), ["0123456789"]);
        assert_eq!(lines("0123456789a bc", 10), ["0123456789", "a bc"]);
        assert_eq!(lines("ab 0123456789012", 10), ["ab ", "0123456789", "012"]);
    }

    #[test]
    fn no_line_is_wider_than_the_column() {
        let texts = [
            "日本語のとても長い文章です。改行は単語の間ではありません。",
            "e\u{301}e\u{301}e\u{301} 👩‍🚒👩‍🚒👩‍🚒👩‍🚒👩‍🚒👩‍🚒 \u{1b}[2J\u{1b}[2J and \u{202e}more",
            "word word   word\tword wordwordwordwordword",
        ];
        for text in texts {
            for width in 10..30 {
                for line in wrap(text, width) {
                    let end = line
                        .iter()
                        .rposition(|glyph| !glyph.is_space())
                        .unwrap_or(0);
                    let used: usize = line.iter().take(end + 1).map(|glyph| glyph.width).sum();
                    assert!(used <= width, "{line:?} in {width}");
                }
            }
        }
    }

    #[test]
    fn every_byte_is_shown_once() {
        for text in [
            "a\r\nb\tc",
            "👩‍🚒a\u{200d}b",
            "\u{1b}[31mred",
            "z\u{301}\u{301}",
            "\u{301}",
        ] {
            let mut end = 0;
            for glyph in glyphs(text) {
                assert_eq!(glyph.source.start, end);
                end = glyph.source.end;
            }
            assert_eq!(end, text.len());
        }
    }

    #[test]
    fn what_would_do_something_is_spelled_out() {
        assert_eq!(one_line("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(one_line("\u{202e}evil"), "\\u{202e}evil");
        assert_eq!(one_line("a\nb\rc\td"), "a\\nb\\rc    d");
        assert_eq!(one_line("ali\u{200d}ce"), "ali\\u{200d}ce");
        assert_eq!(one_line("日\u{200d}"), "日\\u{200d}");
        assert_eq!(one_line("\u{301}"), "\\u{301}");
        assert_eq!(one_line("👩‍🚒 é e\u{301} 日本"), "👩‍🚒 é e\u{301} 日本");
        let heap = format!("z{}", "\u{301}".repeat(limits::CLUSTER_CHARS));
        assert!(one_line(&heap).starts_with("z\\u{301}"));
        let full = format!("z{}", "\u{301}".repeat(limits::CLUSTER_CHARS - 1));
        assert_eq!(one_line(&full), full);
    }

    #[test]
    fn what_is_too_long_is_shortened_by_columns() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("日本語", 4), "日…");
    }
}
