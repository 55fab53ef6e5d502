//! CSV with a header line. A column whose every value is an integer, a number or `true`/`false` becomes that; the numbers are
//! those of JSON, so that `007` and `+1` stay text. An empty value of such a column is absent, of a text column empty text.

use std::io::Read;

use serde_json::Value;

use super::Row;
use super::error::{Located, Problem};
use super::lines::Lines;
use crate::limits;

/// What all values of a column are, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No value seen.
    Empty,
    Bool,
    Integer,
    Number,
    Text,
}

impl Kind {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self::Empty;
        }
        match serde_json::from_str::<Value>(text) {
            // JSON allows blanks around a value; text with blanks is text.
            _ if text.trim() != text => Self::Text,
            Ok(Value::Bool(_)) => Self::Bool,
            Ok(Value::Number(number)) if number.is_i64() => Self::Integer,
            Ok(Value::Number(number)) if number.is_f64() => Self::Number,
            _ => Self::Text,
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Empty, other) | (other, Self::Empty) => other,
            (Self::Integer, Self::Number) | (Self::Number, Self::Integer) => Self::Number,
            _ => Self::Text,
        }
    }

    /// The value of a text in a column of this kind; nothing where it is absent.
    fn value(self, text: String) -> Option<Value> {
        match self {
            Self::Text => Some(Value::from(text)),
            Self::Empty => None,
            _ if text.is_empty() => None,
            Self::Number => Some(
                text.parse::<f64>()
                    .map_or_else(|_| Value::from(text), Value::from),
            ),
            Self::Bool | Self::Integer => {
                Some(serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text)))
            }
        }
    }
}

struct Column {
    name: String,
    /// Of the values seen so far.
    seen: Kind,
    /// How values are read.
    kind: Kind,
}

/// The rows of a CSV file.
pub(crate) struct CsvRows<R> {
    records: Records<R>,
    columns: Vec<Column>,
    key: usize,
}

impl<R: Read> CsvRows<R> {
    /// Reads the header. `kinds` are those of an earlier pass; without them all columns are text.
    pub(super) fn new(inner: R, key: Option<&str>, kinds: &[Kind]) -> Result<Self, Located> {
        let mut records = Records {
            lines: Lines::new(inner),
        };
        let Some(record) = records.next()? else {
            return Err(Problem::NoHeader.at(1));
        };
        let columns = header(&record, kinds)?;
        let key = match key {
            None => 0,
            Some(name) => columns
                .iter()
                .position(|column| column.name == name)
                .ok_or_else(|| Problem::NoSuchColumn(name.to_owned()).at(record.line))?,
        };
        Ok(Self {
            records,
            columns,
            key,
        })
    }

    /// The kinds of the columns, after all rows were read.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.columns.iter().map(|column| column.seen).collect()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.records.lines.bytes()
    }

    pub(super) fn hash(&self) -> u64 {
        self.records.lines.hash()
    }

    fn row(&mut self) -> Result<Option<Row>, Located> {
        let name = |columns: &[Column], number: usize| {
            columns
                .get(number.wrapping_sub(1))
                .map(|column| column.name.clone())
        };
        let columns = &self.columns;
        let Some(record) = self
            .records
            .next()
            .map_err(|error| error.named(|number| name(columns, number)))?
        else {
            return Ok(None);
        };
        let (line, found, expected) = (record.line, record.fields.len(), self.columns.len());
        if found < expected {
            let missing = name(&self.columns, found + 1);
            return Err(Problem::TooFewFields { found, expected }.at_column(
                line,
                found + 1,
                missing,
            ));
        }
        if found > expected {
            return Err(Problem::TooManyFields { found, expected }.at_column(
                line,
                expected + 1,
                None,
            ));
        }
        let mut row = Row {
            line,
            key: String::new(),
            fields: Vec::with_capacity(expected - 1),
        };
        for (i, (column, field)) in self.columns.iter_mut().zip(record.fields).enumerate() {
            let Ok(text) = String::from_utf8(field) else {
                return Err(Problem::NotUtf8.at_column(line, i + 1, Some(column.name.clone())));
            };
            if i == self.key {
                if text.is_empty() {
                    return Err(Problem::EmptyKey.at_column(
                        line,
                        i + 1,
                        Some(column.name.clone()),
                    ));
                }
                row.key = text;
                continue;
            }
            column.seen = column.seen.join(Kind::of(&text));
            row.fields.extend(
                column
                    .kind
                    .value(text)
                    .map(|value| (column.name.clone(), value)),
            );
        }
        Ok(Some(row))
    }
}

impl<R: Read> Iterator for CsvRows<R> {
    type Item = Result<Row, Located>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

fn header(record: &Record, kinds: &[Kind]) -> Result<Vec<Column>, Located> {
    let line = record.line;
    if record.fields.len() > limits::COLUMNS {
        return Err(Problem::TooManyColumns(record.fields.len()).at(line));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(record.fields.len());
    for (i, field) in record.fields.iter().enumerate() {
        let name = std::str::from_utf8(field)
            .map_err(|_| Problem::NotUtf8.at_column(line, i + 1, None))?
            .trim();
        if name.is_empty() {
            return Err(Problem::EmptyName.at_column(line, i + 1, None));
        }
        if columns.iter().any(|column| column.name == name) {
            return Err(Problem::DuplicateName(name.to_owned()).at_column(line, i + 1, None));
        }
        let kind = kinds.get(i).copied().unwrap_or(Kind::Text);
        columns.push(Column {
            name: name.to_owned(),
            seen: Kind::Empty,
            kind,
        });
    }
    Ok(columns)
}

/// One record: the line where it begins and its fields, unquoted.
struct Record {
    line: u64,
    fields: Vec<Vec<u8>>,
}

/// Records of RFC 4180: fields between commas, quoted ones may hold commas, doubled quotes and line breaks. A quote inside
/// an unquoted field is taken as it is; text after a closing quote and a quote that never closes are errors. Empty lines
/// are skipped.
struct Records<R> {
    lines: Lines<R>,
}

impl<R: Read> Records<R> {
    fn next(&mut self) -> Result<Option<Record>, Located> {
        loop {
            if !self.lines.next()? {
                return Ok(None);
            }
            if !self.lines.content().is_empty() {
                return self.record().map(Some);
            }
        }
    }

    /// Reads the record that begins with the present line.
    fn record(&mut self) -> Result<Record, Located> {
        let mut record = Record {
            line: self.lines.number(),
            fields: Vec::new(),
        };
        let mut at = 0;
        loop {
            let field = if self.lines.content().get(at) == Some(&b'"') {
                self.quoted(&mut at, record.fields.len() + 1)?
            } else {
                let rest = self.lines.content().get(at..).unwrap_or_default();
                let field = rest
                    .split(|byte| *byte == b',')
                    .next()
                    .unwrap_or_default()
                    .to_vec();
                at += field.len();
                field
            };
            record.fields.push(field);
            match self.lines.content().get(at) {
                None => return Ok(record),
                Some(b',') => at += 1,
                Some(_) => {
                    return Err(Problem::AfterQuote.at_column(
                        self.lines.number(),
                        record.fields.len(),
                        None,
                    ));
                }
            }
        }
    }

    /// Reads the quoted field that begins at `at`, going on to further lines; `at` ends behind the closing quote.
    fn quoted(&mut self, at: &mut usize, number: usize) -> Result<Vec<u8>, Located> {
        let line = self.lines.number();
        let mut field = Vec::new();
        *at += 1;
        let mut searched = *at;
        loop {
            let rest = self.lines.content().get(searched..).unwrap_or_default();
            let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
                searched += rest.len();
                // The line break belongs to the value.
                if !self
                    .lines
                    .append()
                    .map_err(|error| error.began(line, number))?
                {
                    return Err(Problem::OpenQuote.at_column(line, number, None));
                }
                continue;
            };
            let quote = searched + quote;
            let content = self.lines.content();
            field.extend_from_slice(content.get(*at..quote).unwrap_or_default());
            let doubled = content.get(quote + 1) == Some(&b'"');
            *at = quote + 1;
            if !doubled {
                return Ok(field);
            }
            field.push(b'"');
            *at += 1;
            searched = *at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::InputError;

    fn rows(text: &str) -> Result<Vec<Row>, String> {
        let shown = |error| {
            InputError {
                path: "f.csv".into(),
                error,
            }
            .to_string()
        };
        let mut first = CsvRows::new(text.as_bytes(), None, &[]).map_err(shown)?;
        first
            .by_ref()
            .collect::<Result<Vec<_>, _>>()
            .map_err(shown)?;
        CsvRows::new(text.as_bytes(), None, &first.kinds())
            .map_err(shown)?
            .collect::<Result<_, _>>()
            .map_err(shown)
    }

    #[test]
    fn columns_have_one_kind() {
        let rows =
            rows("k,i,n,b,t,z,e\na,1,1.5,true,007,,\nb,-2,3,false,8, 1,\nc,,,,,,\n").unwrap();
        let values = |at: usize| serde_json::Value::from_iter(rows.get(at).unwrap().fields.clone());
        assert_eq!(
            values(0),
            serde_json::json!({"i": 1, "n": 1.5, "b": true, "t": "007", "z": ""})
        );
        assert_eq!(
            values(1),
            serde_json::json!({"i": -2, "n": 3.0, "b": false, "t": "8", "z": " 1"})
        );
        assert_eq!(values(2), serde_json::json!({"t": "", "z": ""}));
        assert_eq!(
            rows.iter()
                .map(|row| (row.line, row.key.as_str()))
                .collect::<Vec<_>>(),
            [(2, "a"), (3, "b"), (4, "c")]
        );
    }

    #[test]
    fn quotes_line_breaks_and_byte_order_marks() {
        let rows = rows("\u{feff}k,v\r\na,\"x\r\ny, \"\"z\"\"\"\r\nb,w\r\n").unwrap();
        assert_eq!(
            rows.first().unwrap().fields,
            [("v".to_owned(), Value::from("x\r\ny, \"z\""))]
        );
        assert_eq!(rows.last().unwrap().line, 4);
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, expected) in [
            (
                "",
                "f.csv, line 1: the file is empty: the first line must name the columns",
            ),
            (
                "a,\nx,y\n",
                "f.csv, line 1, column 2: the column has no name",
            ),
            (
                "a,b,a\n",
                "f.csv, line 1, column 3: the column name `a` is used twice",
            ),
            (
                "a,b,c\n1,2,3\n4,5\n",
                "f.csv, line 3, column 3 (c): the line ends after 2 of 3 columns",
            ),
            (
                "a,b\n1,2,3\n",
                "f.csv, line 2, column 3: 3 values, the header names 2 columns",
            ),
            (
                "a,b\n\"x\ny\",2\n,5\n",
                "f.csv, line 4, column 1 (a): the key is empty",
            ),
            (
                "a,b\n1,\"never closed\n2,3\n",
                "f.csv, line 2, column 2 (b): a quote is never closed",
            ),
            (
                "a,b\n\"1\"x,2\n",
                "f.csv, line 2, column 1 (a): text after the closing quote",
            ),
            (
                "a,b\n1,\"x\n\"y\n",
                "f.csv, line 3, column 2 (b): text after the closing quote",
            ),
        ] {
            let found = rows(text)
                .map(|rows| format!("{rows:?}"))
                .unwrap_or_else(|error| error);
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_text() {
        let mut rows = CsvRows::new(b"a,b\n1,2\n3,\xff\n".as_slice(), None, &[]).unwrap();
        assert!(rows.next().unwrap().is_ok());
        let error = InputError {
            path: "f.csv".into(),
            error: rows.next().unwrap().unwrap_err(),
        };
        assert_eq!(
            error.to_string(),
            "f.csv, line 3, column 2 (b): not UTF-8 text"
        );
    }

    #[test]
    fn a_record_has_a_longest_length() {
        let record =
            |length: u64| format!("a,b\n1,{}\n", "x".repeat(usize::try_from(length).unwrap()));
        assert_eq!(rows(&record(limits::LINE / 2)).unwrap().len(), 1);
        assert_eq!(
            rows(&record(limits::LINE + 1)).unwrap_err(),
            "f.csv, line 2: longer than 1048576 bytes"
        );
        let unclosed = format!("a,b\n1,\"{}", "x\n".repeat(1 << 20));
        assert_eq!(
            rows(&unclosed).unwrap_err(),
            "f.csv, line 2, column 2 (b): longer than 1048576 bytes"
        );
    }
}
