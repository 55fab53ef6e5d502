//! The line that is being typed. Positions are byte offsets at the boundaries of what a person sees as one character.

use unicode_segmentation::UnicodeSegmentation;

/// Some text and a cursor in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    text: String,
    cursor: usize,
}

impl Input {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The byte offset of the cursor.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Types some text.
    pub(crate) fn insert(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    /// Takes the text out.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(crate) fn backspace(&mut self) {
        self.erase(self.left_of(), self.cursor);
    }

    pub(crate) fn delete(&mut self) {
        self.erase(self.cursor, self.right_of());
    }

    pub(crate) fn delete_word(&mut self) {
        self.erase(self.word_left_of(), self.cursor);
    }

    pub(crate) fn delete_to_start(&mut self) {
        self.erase(0, self.cursor);
    }

    pub(crate) fn delete_to_end(&mut self) {
        self.erase(self.cursor, self.text.len());
    }

    pub(crate) fn left(&mut self) {
        self.cursor = self.left_of();
    }

    pub(crate) fn right(&mut self) {
        self.cursor = self.right_of();
    }

    pub(crate) fn word_left(&mut self) {
        self.cursor = self.word_left_of();
    }

    pub(crate) fn word_right(&mut self) {
        let mut words = self.after().unicode_word_indices();
        let end = words.next().map(|(at, word)| at + word.len());
        self.cursor = end.map_or(self.text.len(), |end| self.cursor + end);
    }

    pub(crate) fn start(&mut self) {
        self.cursor = 0;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    fn left_of(&self) -> usize {
        let last = self.before().graphemes(true).next_back();
        self.cursor - last.map_or(0, str::len)
    }

    fn right_of(&self) -> usize {
        self.cursor + self.after().graphemes(true).next().map_or(0, str::len)
    }

    fn word_left_of(&self) -> usize {
        let last = self.before().unicode_word_indices().next_back();
        last.map_or(0, |(at, _)| at)
    }

    fn erase(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Input {
        let mut input = Input::default();
        input.insert(text);
        input
    }

    #[test]
    fn the_cursor_moves_by_what_is_seen() {
        let mut input = typed("a👩‍🚒e\u{301}日");
        for left in ["a👩‍🚒e\u{301}", "a👩‍🚒", "a", "", ""] {
            input.left();
            assert_eq!(input.before(), left);
        }
        input.right();
        input.right();
        assert_eq!(input.before(), "a👩‍🚒");
        input.insert("x");
        assert_eq!(input.text(), "a👩‍🚒xe\u{301}日");
        input.end();
        input.right();
        assert_eq!(input.before(), input.text());
    }

    #[test]
    fn erasing_keeps_the_rest() {
        let mut input = typed("one two  three");
        input.word_left();
        assert_eq!(input.before(), "one two  ");
        input.delete_word();
        assert_eq!((input.text(), input.cursor()), ("one three", 4));
        input.delete();
        assert_eq!(input.text(), "one hree");
        input.backspace();
        assert_eq!(input.text(), "onehree");
        input.delete_to_end();
        assert_eq!(input.text(), "one");
        input.start();
        input.backspace();
        input.word_right();
        input.delete_to_start();
        assert_eq!(input, Input::default());
        for edit in [
            Input::backspace,
            Input::delete,
            Input::delete_word,
            Input::left,
            Input::right,
        ] {
            edit(&mut input);
        }
        let mut input = typed("a👩‍🚒");
        input.backspace();
        assert_eq!(input.take(), "a");
    }
}
