//! Where a body names its model, and how another name gets there.

use std::ops::Range;

use bytes::Bytes;

use crate::error::{Code, RequestError};

/// The place of a JSON body's top-level `model`.
///
/// Where the key stands several times only the last value is replaced: it is the one that
/// [`ParsedRequest::model`](super::ParsedRequest) was read from, and the one that the JSON readers
/// of the engines (Python's `json`, `msgspec`, `orjson`, `serde_json` into a map) go by. The others
/// stay as the client wrote them. Replacing all of them would let a body of many short keys grow
/// by a long name each.
#[derive(Clone, Debug, Default)]
pub(super) enum ModelPlace {
    /// The body is not to change.
    #[default]
    None,
    /// The value of the last such key.
    Value(Range<usize>),
    /// There is no such key; it goes right after the `{`.
    Insert {
        at: usize,
        /// Nothing else is in the object.
        alone: bool,
    },
}

impl ModelPlace {
    /// `value` is a slice of `json`, an object.
    pub(super) fn new(json: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            let start = value.as_ptr() as usize - json.as_ptr() as usize;
            return ModelPlace::Value(start..start + value.len());
        }
        let Some(brace) = json.find('{') else { return ModelPlace::None };
        let at = brace + 1;
        ModelPlace::Insert { at, alone: json[at..].trim_start().starts_with('}') }
    }

    /// `body` with `model` at the place; all other bytes stay. `body` is the one the place was
    /// found in: another one is returned as it is where the place does not fit.
    ///
    /// # Errors
    ///
    /// `PayloadTooLarge` where the result would be larger than `limit` bytes.
    pub(super) fn fill(
        &self,
        body: &Bytes,
        model: &str,
        limit: usize,
    ) -> Result<Bytes, RequestError> {
        // Serialising a string cannot fail.
        let name = || serde_json::Value::from(model).to_string();
        let (place, field) = match *self {
            ModelPlace::None => return Ok(body.clone()),
            ModelPlace::Value(ref place) => (place.clone(), name()),
            ModelPlace::Insert { at, alone } => {
                (at..at, format!("\"model\":{}{}", name(), if alone { "" } else { "," }))
            }
        };
        let (Some(head), Some(tail)) = (body.get(..place.start), body.get(place.end..)) else {
            return Ok(body.clone());
        };
        if head.len() + field.len() + tail.len() > limit {
            return Err(RequestError::new(
                Code::PayloadTooLarge,
                format!(
                    "request body with the rewritten model is larger than the limit of {limit} bytes"
                ),
            ));
        }
        Ok([head, field.as_bytes(), tail].concat().into())
    }
}
