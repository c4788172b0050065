use super::Prompt;

/// Request headers, keys in lower case, in the order received; of a repeated header the last
/// value counts, as in the reference.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds a header, replacing an earlier one of the same name. `key` must be lower case.
    pub fn set(&mut self, key: String, value: String) {
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(slot) => slot.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// The value of a header by its lower-case name.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
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
}
