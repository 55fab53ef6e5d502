//! What a key is called on the screen. Names are the word of whoever let somebody in; keys are not: so the beginning of
//! the key always stands beside the name, and a name that several keys have is marked.

use std::collections::HashMap;

use eidetica::PublicKey;
use eidetica::text::is_unsafe;

use crate::glyphs::one_line;
use crate::limits;
use crate::model::Member;

/// A key as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Safe to show; `?` where there is none.
    pub(crate) text: String,
    /// The beginning of the key.
    pub(crate) fingerprint: String,
    /// Whether another key has the same name, or one that looks like it.
    pub(crate) is_shared: bool,
}

/// The names in one room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(HashMap<PublicKey, Name>);

impl Names {
    pub(crate) fn new(members: &[Member]) -> Self {
        let mut count: HashMap<String, usize> = HashMap::new();
        for member in members {
            *count.entry(look(&member.name)).or_default() += 1;
        }
        let name = |member: &Member| {
            let is_shared = count
                .get(&look(&member.name))
                .is_some_and(|count| *count > 1);
            (member.key, Name::new(&member.key, &member.name, is_shared))
        };
        Self(members.iter().map(name).collect())
    }

    pub(crate) fn get(&self, key: &PublicKey) -> Name {
        let unknown = || Name::new(key, "", false);
        self.0.get(key).cloned().unwrap_or_else(unknown)
    }

    /// The name of a key that is not in the room yet and would like to be called so.
    pub(crate) fn newcomer(&self, key: &PublicKey, name: &str) -> Name {
        let is_taken = self
            .0
            .iter()
            .any(|(other, known)| other != key && look(&known.text) == look(name));
        Name::new(key, name, is_taken)
    }
}

impl Name {
    fn new(key: &PublicKey, name: &str, is_shared: bool) -> Self {
        let digits = if is_shared {
            limits::LONG_FINGERPRINT
        } else {
            limits::FINGERPRINT
        };
        let text = if name.trim().is_empty() {
            "?".to_owned()
        } else {
            one_line(name)
        };
        Self {
            text,
            fingerprint: fingerprint(key, digits),
            is_shared,
        }
    }
}

/// `alice 3f9a2c1b`; with a mark where several keys have the name.
impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.is_shared { "!" } else { "" };
        write!(f, "{mark}{} {}", self.text, self.fingerprint)
    }
}

/// The first digits of a key.
pub(crate) fn fingerprint(key: &PublicKey, digits: usize) -> String {
    let text = key.to_string();
    text.trim_start_matches("ed25519:")
        .chars()
        .take(digits)
        .collect()
}

/// What a name looks like: without case, space, and what cannot be seen.
fn look(name: &str) -> String {
    let seen = name
        .chars()
        .filter(|c| !c.is_whitespace() && !is_unsafe(*c));
    seen.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key, member};

    #[test]
    fn a_name_that_another_key_has_is_marked() {
        let names = Names::new(&[
            member(1, "alice"),
            member(2, "Ali\u{200b}ce "),
            member(3, "bob"),
        ]);
        let shown = |n| names.get(&key(n)).to_string();
        assert_eq!(shown(1), "!alice 0101010101010101");
        assert_eq!(shown(2), "!Ali\\u{200b}ce  0202020202020202");
        assert_eq!(shown(3), "bob 03030303");
        assert_eq!(shown(4), "? 04040404");
        assert!(names.newcomer(&key(4), "BOB").is_shared);
        assert!(!names.newcomer(&key(3), "bob").is_shared);
    }
}
