//! Values and conditions as they are typed: `name=text`, `count:=5`, `state=CA`, `latitude>40`.

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::Value;

use crate::output::plain;

/// `NAME=TEXT`, or `NAME:=JSON` for numbers, lists and other values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: Value,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("expected NAME=TEXT or NAME:=JSON")?;
        let (name, value) = match name.strip_suffix(':') {
            None => (name, Value::from(value)),
            Some(name) => {
                let value = serde_json::from_str(value)
                    .map_err(|error| format!("not JSON after `:=`: {error}"))?;
                (name, value)
            }
        };
        if name.is_empty() {
            return Err("the name before `=` is empty".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }
}

/// A condition on one field of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    field: String,
    test: Test,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
}

/// Longer signs first: `<=` is not `<` with the value `=..`.
const SIGNS: [(&str, Test); 7] = [
    ("!=", Test::NotEqual),
    ("<=", Test::LessOrEqual),
    (">=", Test::GreaterOrEqual),
    ("=", Test::Equal),
    ("<", Test::Less),
    (">", Test::Greater),
    ("~", Test::Contains),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text
            .find(['!', '=', '<', '>', '~'])
            .ok_or("expected FIELD=VALUE, or one of != < <= > >= ~")?;
        let (field, rest) = text.split_at(at);
        let found = SIGNS
            .iter()
            .find_map(|(sign, test)| Some((*test, rest.strip_prefix(sign)?)));
        let (test, value) = found.ok_or("expected = or another sign after the field")?;
        if field.is_empty() {
            return Err("the field before the sign is empty".to_owned());
        }
        Ok(Self {
            field: field.trim_end().to_owned(),
            test,
            value: value.to_owned(),
        })
    }
}

impl Condition {
    /// Whether the row meets the condition. A field that is absent only meets `!=`. Numbers compare as numbers where both
    /// sides are numbers, everything else as text.
    pub(crate) fn holds(&self, key: &str, fields: &Value) -> bool {
        let key = Value::from(key);
        let found = fields
            .get(&self.field)
            .or_else(|| (self.field == "key").then_some(&key));
        let Some(found) = found else {
            return self.test == Test::NotEqual;
        };
        if self.test == Test::Contains {
            return plain(found).contains(&self.value);
        }
        let order = match (found.as_f64(), self.value.parse::<f64>()) {
            (Some(found), Ok(wanted)) => found.partial_cmp(&wanted),
            _ => Some(plain(found).as_str().cmp(self.value.as_str())),
        };
        match self.test {
            Test::Equal => order == Some(Ordering::Equal),
            Test::NotEqual => order != Some(Ordering::Equal),
            Test::Less => order == Some(Ordering::Less),
            Test::LessOrEqual => order.is_some_and(Ordering::is_le),
            Test::Greater => order == Some(Ordering::Greater),
            Test::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
            Test::Contains => false,
        }
    }
}

/// The order of two values for sorting: absent, then numbers, then text.
pub(crate) fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => plain(a).cmp(&plain(b)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn assignments() {
        let parsed = |text: &str| text.parse::<Assignment>().map(|a| (a.name, a.value));
        assert_eq!(
            parsed("name=San=Jose"),
            Ok(("name".to_owned(), json!("San=Jose")))
        );
        assert_eq!(parsed("count:=5"), Ok(("count".to_owned(), json!(5))));
        assert_eq!(
            parsed("tags:=[\"a\",null]"),
            Ok(("tags".to_owned(), json!(["a", null])))
        );
        assert_eq!(parsed("empty="), Ok(("empty".to_owned(), json!(""))));
        for bad in ["name", "=x", ":=1", "x:=", "x:={"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conditions() {
        let row = json!({"state": "CA", "latitude": 37.6, "runways": 4, "note": "10 <= x"});
        let holds = |text: &str| text.parse::<Condition>().unwrap().holds("SFO", &row);
        for met in [
            "state=CA",
            "state!=NV",
            "state>C",
            "latitude>37",
            "latitude<=37.6",
            "runways=4.0",
            "runways<10",
            "key=SFO",
            "absent!=1",
            "note~<=",
            "state~A",
        ] {
            assert!(holds(met), "{met}");
        }
        for missed in [
            "state=ca",
            "latitude<37",
            "runways!=4",
            "absent=1",
            "absent<1",
            "state~x",
        ] {
            assert!(!holds(missed), "{missed}");
        }
        for bad in ["state", "=CA", "!CA", "state!CA"] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sorting() {
        let mut values = [json!("b"), json!(10), json!("a"), json!(9.5), json!(-1)];
        values.sort_by(|a, b| compare(Some(a), Some(b)));
        assert_eq!(
            values,
            [json!(-1), json!(9.5), json!(10), json!("a"), json!("b")]
        );
    }
}
