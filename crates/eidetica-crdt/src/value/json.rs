//! JSON in and out.

use super::{Doc, List, Value};
use crate::limits;

/// Why JSON is no [`Value`]. The blame is with whoever supplied it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Containers inside each other beyond [`limits::DEPTH`].
    #[error("the JSON is nested deeper than {}", limits::DEPTH)]
    TooDeep,
    /// A whole number that no `i64` holds.
    #[error("the number {number} does not fit 64 bits with a sign")]
    Number {
        /// The number.
        number: serde_json::Number,
    },
    /// The top is no object.
    #[error("the JSON is not an object")]
    NotAnObject,
    /// The text is no JSON, or nested too deeply for the parser.
    #[error("the text is not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
}

impl Value {
    /// What a JSON value says. Stack use is bounded by [`limits::DEPTH`].
    ///
    /// # Errors
    /// Too deep; a whole number beyond `i64`.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, JsonError> {
        from_json(json, limits::DEPTH)
    }

    /// The value as JSON: bytes as base64 text, numbers that JSON does not have as null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(n) | Self::Counter(n) => Json::from(*n),
            Self::Float(f) => Json::from(*f),
            Self::Text(t) => Json::String(t.clone()),
            Self::Bytes(b) => Json::String(data_encoding::BASE64.encode(b)),
            Self::Map(doc) => doc.to_json(),
            Self::List(list) => Json::Array(list.iter().map(Self::to_json).collect()),
        }
    }
}

impl Doc {
    /// What a JSON object says.
    ///
    /// # Errors
    /// No object, or what [`Value::from_json`] refuses.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, JsonError> {
        match Value::from_json(json)? {
            Value::Map(doc) => Ok(doc),
            _ => Err(JsonError::NotAnObject),
        }
    }

    /// What a JSON text says. Stack use is bounded whatever the text.
    ///
    /// # Errors
    /// No JSON, no object, or what [`Value::from_json`] refuses.
    pub fn from_json_str(text: &str) -> Result<Self, JsonError> {
        Self::from_json(&serde_json::from_str(text)?)
    }

    /// The map as JSON; see [`Value::to_json`].
    pub fn to_json(&self) -> serde_json::Value {
        self.iter()
            .map(|(key, value)| (key.to_owned(), value.to_json()))
            .collect()
    }
}

/// Converts with `room` containers to go.
fn from_json(json: &serde_json::Value, room: usize) -> Result<Value, JsonError> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => number(n)?,
        Json::String(t) => Value::Text(t.clone()),
        Json::Array(items) => {
            let room = room.checked_sub(1).ok_or(JsonError::TooDeep)?;
            Value::List(
                items
                    .iter()
                    .map(|v| from_json(v, room))
                    .collect::<Result<List, JsonError>>()?,
            )
        }
        Json::Object(map) => {
            let room = room.checked_sub(1).ok_or(JsonError::TooDeep)?;
            let entries = map
                .iter()
                .map(|(k, v)| Ok((k.as_str(), from_json(v, room)?)));
            Value::Map(entries.collect::<Result<Doc, JsonError>>()?)
        }
    })
}

fn number(number: &serde_json::Number) -> Result<Value, JsonError> {
    if let Some(n) = number.as_i64() {
        return Ok(Value::Int(n));
    }
    match number.as_f64() {
        Some(f) if number.is_f64() => Ok(Value::Float(f)),
        _ => Err(JsonError::Number {
            number: number.clone(),
        }),
    }
}
