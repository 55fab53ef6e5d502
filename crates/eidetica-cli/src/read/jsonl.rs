//! JSON lines: one object per line, blank lines skipped.

use std::io::Read;

use serde_json::Value;

use super::Row;
use super::error::{Located, Problem};
use super::lines::Lines;

/// The field that holds the key unless another one is named.
const DEFAULT_KEY: &str = "id";

/// The rows of a JSONL file.
pub(crate) struct JsonlRows<R> {
    lines: Lines<R>,
    key: String,
}

impl<R: Read> JsonlRows<R> {
    pub(super) fn new(inner: R, key: Option<&str>) -> Self {
        Self {
            lines: Lines::new(inner),
            key: key.unwrap_or(DEFAULT_KEY).to_owned(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    pub(super) fn hash(&self) -> u64 {
        self.lines.hash()
    }

    fn row(&mut self) -> Result<Option<Row>, Located> {
        while self.lines.next()? {
            if !self.lines.content().trim_ascii().is_empty() {
                return self.parse().map(Some);
            }
        }
        Ok(None)
    }

    fn parse(&self) -> Result<Row, Located> {
        let line = self.lines.number();
        let text = std::str::from_utf8(self.lines.content())
            .map_err(|error| Problem::NotUtf8.at_column(line, error.valid_up_to() + 1, None))?;
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let shown = error.to_string();
            // serde_json appends its own position, whose line is always 1 here.
            let problem = shown
                .split(" at line ")
                .next()
                .unwrap_or_default()
                .to_owned();
            Problem::Json(problem).at_column(line, error.column().max(1), None)
        })?;
        let Value::Object(mut object) = value else {
            return Err(Problem::NotAnObject(sort(&value)).at_column(line, 1, None));
        };
        let key = match object.remove(&self.key) {
            None => return Err(Problem::NoKey(self.key.clone()).at_column(line, 1, None)),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(Problem::EmptyKey.at_column(line, 1, None));
            }
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
            Some(other) => {
                let problem = Problem::KeyNotText {
                    field: self.key.clone(),
                    found: sort(&other),
                };
                return Err(problem.at_column(line, 1, None));
            }
        };
        Ok(Row {
            line,
            key,
            fields: object.into_iter().collect(),
        })
    }
}

impl<R: Read> Iterator for JsonlRows<R> {
    type Item = Result<Row, Located>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::read::InputError;

    fn rows(text: &[u8]) -> Result<Vec<Row>, String> {
        let shown = |error| {
            InputError {
                path: "f.jsonl".into(),
                error,
            }
            .to_string()
        };
        JsonlRows::new(text, None)
            .collect::<Result<_, _>>()
            .map_err(shown)
    }

    #[test]
    fn objects_become_rows() {
        let rows =
            rows(b"\xef\xbb\xbf{\"id\":\"a\",\"n\":1,\"deep\":{\"x\":[true]}}\n\n{\"id\":7}")
                .unwrap();
        assert_eq!(
            rows.iter()
                .map(|row| (row.line, row.key.as_str()))
                .collect::<Vec<_>>(),
            [(1, "a"), (3, "7")]
        );
        let first = Value::from_iter(rows.first().unwrap().fields.clone());
        assert_eq!(first, serde_json::json!({"n": 1, "deep": {"x": [true]}}));
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, expected) in [
            (
                &b"{\"id\":1}\n{\"id\":2,}\n"[..],
                "f.jsonl, line 2, column 9: trailing comma",
            ),
            (
                b"{\"id\":1}\n\n[1]\n",
                "f.jsonl, line 3, column 1: expected a JSON object, found a list",
            ),
            (
                b"{\"x\":1}",
                "f.jsonl, line 1, column 1: the object has no field `id` to be its key",
            ),
            (
                b"{\"id\":1.5}",
                "f.jsonl, line 1, column 1: the key field `id` must be text or an integer, found a number",
            ),
            (
                b"{\"id\":\"\"}",
                "f.jsonl, line 1, column 1: the key is empty",
            ),
            (
                b"{\"id\":\"\xff\"}",
                "f.jsonl, line 1, column 8: not UTF-8 text",
            ),
            (
                b"{\"id\":1} {}",
                "f.jsonl, line 1, column 10: trailing characters",
            ),
            (
                b"{\"id\":1",
                "f.jsonl, line 1, column 7: EOF while parsing an object",
            ),
        ] {
            assert_eq!(rows(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_line_has_a_longest_length() {
        let line = |length: usize| format!("{{\"id\":1,\"v\":\"{}\"}}\n", "x".repeat(length));
        let most = usize::try_from(limits::LINE).unwrap() - line(0).len();
        assert_eq!(rows(line(most).as_bytes()).unwrap().len(), 1);
        assert_eq!(
            rows(line(most + 1).as_bytes()).unwrap_err(),
            "f.jsonl, line 1: longer than 1048576 bytes"
        );
        let deep = format!(
            "{{\"id\":1,\"v\":{}1{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(
            rows(deep.as_bytes())
                .unwrap_err()
                .contains("recursion limit")
        );
    }
}
