//! Text of strangers, made safe to look at.
//!
//! Names and values may hold terminal escapes, line breaks or characters that reorder what is seen. A program that
//! shows them to a person spells those out, as `\u{..}`, so that they never reach a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character does something instead of showing something: controls, line and paragraph separators,
/// bidirectional and invisible formatting, tags, noncharacters.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with every unsafe character spelled out; line breaks and tabs as `\n`, `\r`, `\t`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_untouched() {
        for text in [
            "",
            "San José",
            "日本語",
            "a \\ b",
            "👩‍🚒".trim_matches('\u{200d}'),
        ] {
            assert!(!escape(text).contains("\\u{1b}"));
        }
        assert!(matches!(escape("San José"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_moves_a_cursor_or_reorders_text_is_spelled_out() {
        assert_eq!(escape("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escape("a\nb\tc\rd"), "a\\nb\\tc\\rd");
        assert_eq!(escape("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(escape("\u{9b}31m\u{7f}\0"), "\\u{9b}31m\\u{7f}\\u{0}");
        for c in [
            '\u{200b}',
            '\u{2028}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
            '\u{ad}',
        ] {
            assert!(!escape(&c.to_string()).contains(c));
        }
    }
}
