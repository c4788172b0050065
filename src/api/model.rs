//! Where a body names its model, and how another name gets there.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

/// The places of a JSON body's top-level `model` values.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelPlaces {
    /// Every value of the key, in order.
    values: SmallVec<[Range<usize>; 1]>,
    /// Where the key would go if there is none.
    insert: Option<Insert>,
}

#[derive(Clone, Copy, Debug)]
struct Insert {
    /// Right after the `{`.
    at: usize,
    /// Nothing else is in the object.
    alone: bool,
}

impl ModelPlaces {
    /// A body that is not to change.
    pub fn none() -> Self {
        Self::default()
    }

    /// `values` are slices of `json`, an object.
    pub fn new<'a>(json: &str, values: impl Iterator<Item = &'a str>) -> Self {
        let base = json.as_ptr() as usize;
        let values = values
            .map(|value| {
                let start = value.as_ptr() as usize - base;
                start..start + value.len()
            })
            .collect::<SmallVec<_>>();
        let insert = json.find('{').filter(|_| values.is_empty()).map(|brace| Insert {
            at: brace + 1,
            alone: json[brace + 1..].trim_start().starts_with('}'),
        });
        Self { values, insert }
    }

    /// `body` with `model` at every place; all other bytes stay. `body` is the one the places
    /// were found in: another one is returned as it is where they do not fit.
    pub fn fill(&self, body: &Bytes, model: &str) -> Bytes {
        // Serialising a string cannot fail.
        let name = serde_json::Value::from(model).to_string();
        let field;
        let mut pieces: SmallVec<[&[u8]; 4]> = SmallVec::new();
        let mut from = 0;
        if let Some(Insert { at, alone }) = self.insert {
            field = format!("\"model\":{name}{}", if alone { "" } else { "," });
            let Some(head) = body.get(..at) else { return body.clone() };
            pieces.extend([head, field.as_bytes()]);
            from = at;
        }
        for place in &self.values {
            let Some(between) = body.get(from..place.start) else { return body.clone() };
            pieces.extend([between, name.as_bytes()]);
            from = place.end;
        }
        let Some(tail) = body.get(from..) else { return body.clone() };
        if pieces.is_empty() {
            return body.clone();
        }
        pieces.push(tail);
        pieces.concat().into()
    }
}
