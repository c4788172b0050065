use bytes::Bytes;

use super::Prompt;

/// Request headers: keys in lower case, in the order received, slices of the message they came
/// in. Of a repeated header the last value counts, as in the reference.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(Bytes, Bytes)>);

impl Headers {
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// Adds a header, replacing an earlier one of the same name.
    pub fn set(&mut self, key: Bytes, value: Bytes) {
        let key = if key.iter().any(u8::is_ascii_uppercase) {
            key.to_ascii_lowercase().into()
        } else {
            key
        };
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(slot) => slot.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// The value of a header by its lower-case name; `None` where it is not UTF-8.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_raw(key).and_then(|v| std::str::from_utf8(v).ok())
    }

    pub fn get_raw(&self, key: &str) -> Option<&Bytes> {
        self.0.iter().find(|(k, _)| k == key.as_bytes()).map(|(_, v)| v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One request as plugins see it.
#[derive(Clone, Debug, Default)]
pub struct InferenceRequest {
    /// `x-request-id`.
    pub id: String,
    /// The model the worker is asked for, after any rewrite. A LoRA adapter is a model of its own.
    pub target_model: String,
    /// The body's `cache_salt`: requests with different salts share no prefix.
    pub cache_salt: String,
    pub headers: Headers,
    pub prompt: Prompt,
    /// The body asks for a stream.
    pub stream: bool,
    /// The body's cap on output tokens.
    pub max_output_tokens: Option<u64>,
    /// Larger is more important; negative may be shed.
    pub priority: i32,
    /// Size of the body, bytes.
    pub body_len: usize,
    /// Rather no answer than one from a worker that holds nothing of the prompt.
    pub cached_only: bool,
}
