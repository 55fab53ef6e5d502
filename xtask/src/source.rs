//! Just enough of Rust's lexical grammar to ask which paths a file names, outside comments, literals and test-only items.
//! It does not expand macros and resolves no names: a rule built on it catches honest mistakes, not sabotage.

/// One token of code. Comments and literals are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// 1-based.
    pub(crate) line: usize,
}

/// A path such as `std::time::Instant::now`, and the line where it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl NamedPath {
    /// Whether the segments of `pattern` (`a::b`) stand next to each other in this path.
    pub(crate) fn contains(&self, pattern: &str) -> bool {
        let wanted: Vec<&str> = pattern.split("::").collect();
        self.segments
            .windows(wanted.len())
            .any(|window| window == wanted)
    }
}

/// A file's tokens, those of test-only items apart from the rest.
#[derive(Debug, Default)]
pub(crate) struct Split {
    pub(crate) code: Vec<Token>,
    pub(crate) tests: Vec<Token>,
    /// Names of modules declared as `#[cfg(test)] mod name;`.
    pub(crate) test_modules: Vec<String>,
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer {
        rest: &chars,
        line: 1,
        out: Vec::new(),
    };
    while lexer.step() {}
    lexer.out
}

struct Lexer<'a> {
    rest: &'a [char],
    line: usize,
    out: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(ahead).copied()
    }

    fn skip(&mut self, count: usize) {
        let (gone, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.line += gone.iter().filter(|c| **c == '\n').count();
        self.rest = rest;
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(i, c)| self.peek(i) == Some(c))
    }

    fn push(&mut self, text: String) {
        let length = text.chars().count();
        self.out.push(Token {
            text,
            line: self.line,
        });
        self.skip(length);
    }

    fn step(&mut self) -> bool {
        let Some(c) = self.peek(0) else { return false };
        if self.starts_with("//") {
            let length = self
                .rest
                .iter()
                .position(|c| *c == '\n')
                .unwrap_or(self.rest.len());
            self.skip(length);
        } else if self.starts_with("/*") {
            self.block_comment();
        } else if let Some(hashes) = self.raw_string() {
            self.skip_raw_string(hashes);
        } else if c == '"' || self.starts_with("b\"") || self.starts_with("c\"") {
            self.skip(if c == '"' { 1 } else { 2 });
            self.skip_quoted('"');
        } else if c == '\'' {
            self.char_or_lifetime();
        } else if c.is_alphanumeric() || c == '_' {
            let word: String = self
                .rest
                .iter()
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .collect();
            self.push(word);
        } else if self.starts_with("::") {
            self.push("::".to_owned());
        } else if c.is_whitespace() {
            self.skip(1);
        } else {
            self.push(c.to_string());
        }
        true
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            if self.starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.starts_with("*/") {
                depth = depth.saturating_sub(1);
                self.skip(2);
            } else {
                self.skip(1);
            }
            if depth == 0 || self.rest.is_empty() {
                return;
            }
        }
    }

    /// The number of hashes when a raw string begins here.
    fn raw_string(&self) -> Option<usize> {
        let prefix = ["br", "cr", "r"]
            .iter()
            .find(|prefix| self.starts_with(prefix))?
            .len();
        let hashes = self
            .rest
            .iter()
            .skip(prefix)
            .take_while(|c| **c == '#')
            .count();
        (self.peek(prefix + hashes) == Some('"')).then_some(hashes)
    }

    fn skip_raw_string(&mut self, hashes: usize) {
        let open = self.rest.iter().position(|c| *c == '"').unwrap_or(0);
        self.skip(open + 1);
        let end: String = std::iter::once('"')
            .chain(std::iter::repeat_n('#', hashes))
            .collect();
        while !self.rest.is_empty() && !self.starts_with(&end) {
            self.skip(1);
        }
        self.skip(end.len());
    }

    fn skip_quoted(&mut self, quote: char) {
        while let Some(c) = self.peek(0) {
            self.skip(if c == '\\' { 2 } else { 1 });
            if c == quote {
                return;
            }
        }
    }

    fn char_or_lifetime(&mut self) {
        let is_char = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.skip(1);
        if is_char {
            self.skip_quoted('\'');
        }
    }
}

/// Separates what is compiled only for tests: items under `#[cfg(test)]` or `#[cfg(all(test, ..))]`, and whole files
/// under `#![cfg(test)]`.
pub(crate) fn split_tests(tokens: Vec<Token>) -> Split {
    let mut split = Split::default();
    let mut rest = tokens.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if starts(rest, &["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
            split.tests.append(&mut split.code);
            split.tests.extend_from_slice(rest);
            return split;
        }
        let test_only = starts(rest, &["#", "[", "cfg", "(", "test"])
            || starts(rest, &["#", "[", "cfg", "(", "all", "(", "test"]);
        if test_only {
            let (item, others) = rest.split_at(item_length(rest));
            if let Some(name) = declared_module(item) {
                split.test_modules.push(name);
            }
            split.tests.extend_from_slice(item);
            rest = others;
        } else {
            split.code.push(first.clone());
            rest = after;
        }
    }
    split
}

fn starts(tokens: &[Token], wanted: &[&str]) -> bool {
    tokens.len() >= wanted.len()
        && tokens
            .iter()
            .zip(wanted)
            .all(|(token, text)| token.text == *text)
}

/// The length of the item that begins with an attribute: up to the first `;` or the end of the first braces outside
/// parentheses and brackets.
fn item_length(tokens: &[Token]) -> usize {
    let (mut nested, mut braces) = (0usize, 0usize);
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" => nested += 1,
            ")" | "]" => nested = nested.saturating_sub(1),
            "{" if nested == 0 => braces += 1,
            "}" if nested == 0 => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return i + 1;
                }
            }
            ";" if nested == 0 && braces == 0 => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn declared_module(item: &[Token]) -> Option<String> {
    let at = item.iter().position(|token| token.text == "mod")?;
    let name = item.get(at + 1)?;
    (item.get(at + 2)?.text == ";").then(|| name.text.clone())
}

/// Every path that the tokens name, `use` trees expanded.
pub(crate) fn paths(tokens: &[Token]) -> Vec<NamedPath> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        if first.text == "use" {
            let end = after
                .iter()
                .position(|token| token.text == ";")
                .unwrap_or(after.len());
            let (tree, others) = after.split_at(end);
            use_tree(tree, &mut found);
            rest = others;
        } else if is_word(&first.text) {
            let length = path_length(rest);
            let (path, others) = rest.split_at(length);
            let segments = path
                .iter()
                .filter(|token| token.text != "::")
                .map(|token| token.text.clone())
                .collect();
            found.push(NamedPath {
                segments,
                line: first.line,
            });
            rest = others;
        } else {
            rest = after;
        }
    }
    found
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn path_length(tokens: &[Token]) -> usize {
    let mut length = 1;
    while let [separator, next, ..] = tokens.get(length..).unwrap_or_default() {
        if separator.text != "::" || !is_word(&next.text) {
            break;
        }
        length += 2;
    }
    length
}

fn use_tree(tree: &[Token], found: &mut Vec<NamedPath>) {
    let mut prefixes: Vec<Vec<String>> = vec![Vec::new()];
    let mut current: Vec<String> = Vec::new();
    let mut line = tree.first().map_or(0, |token| token.line);
    let mut tokens = tree.iter();
    while let Some(token) = tokens.next() {
        match token.text.as_str() {
            "{" => prefixes.push(current.clone()),
            "," | "}" => {
                found.push(NamedPath {
                    segments: std::mem::take(&mut current),
                    line,
                });
                if token.text == "}" && prefixes.len() > 1 {
                    prefixes.pop();
                }
                current = prefixes.last().cloned().unwrap_or_default();
            }
            "as" => drop(tokens.next()),
            "::" => {}
            word => {
                line = token.line;
                current.push(word.to_owned());
            }
        }
    }
    found.push(NamedPath {
        segments: current,
        line,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, pattern: &str) -> bool {
        paths(&split_tests(tokens(text)).code)
            .iter()
            .any(|path| path.contains(pattern))
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = r####"
            // std::fs::read
            /* std::fs /* nested */ std::fs */
            /// std::fs in documentation
            fn f<'a>() -> &'a str { let c = '"'; let d = '\''; let r = r#"std::fs "quoted""#; "std::fs" }
        "####;
        assert!(!names(text, "std::fs"));
        assert!(names(text, "f"));
    }

    #[test]
    fn use_trees_are_expanded() {
        assert!(names(
            "use std::{collections::BTreeMap, net::{self, TcpStream}};",
            "std::net"
        ));
        assert!(names(
            "use std::{collections::BTreeMap, fs as files};",
            "std::fs"
        ));
        assert!(names("use rand::{Rng, rng};", "rand::rng"));
        assert!(!names("use std::{collections::BTreeMap, fmt};", "std::fs"));
    }

    #[test]
    fn words_match_whole_segments() {
        assert!(names("let t = std::time::Instant::now();", "Instant::now"));
        assert!(!names("let t = InstantLike::nowhere();", "Instant::now"));
        assert!(!names("let t = my_tokio::x();", "tokio"));
    }

    #[test]
    fn test_only_items_are_apart() {
        let text = "#[cfg(test)]\n#[allow(x)]\nmod tests { fn f() { std::fs::read(\"}\"); } }\nfn g() { std::net::x(); }";
        assert!(!names(text, "std::fs"));
        assert!(names(text, "std::net"));
        assert!(!names("#![cfg(test)]\nuse std::fs;", "std::fs"));
        assert!(names("#[cfg(not(test))]\nuse std::fs;", "std::fs"));
        assert_eq!(
            split_tests(tokens("#[cfg(test)]\nmod oracle;\nmod other;")).test_modules,
            ["oracle"]
        );
    }

    #[test]
    fn lines_are_counted() {
        let found = paths(&tokens("/* a\n b */\n\"x\ny\"\nstd::fs::read"));
        assert_eq!(found.first().map(|path| path.line), Some(5));
    }
}
