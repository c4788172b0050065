use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What the header of every file names the format.
pub const FORMAT: &str = "epp-recording";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Tokens of a block where a row does not say otherwise.
pub const BLOCK_TOKENS: u32 = 64;

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: String,
    pub version: u32,
    /// Random, new whenever the program starts: numbers mean the same in files of one recording.
    pub recording: String,
    /// Place of the file in its recording, from 1 on.
    pub file: u32,
    /// When the recording began, RFC 3339: rows count from here.
    pub started: String,
    /// Version of the program.
    pub epp: String,
    /// A mark of the configuration after all defaults, in 16 hexadecimal digits, by which a replay
    /// knows it again.
    #[serde(default)]
    pub config: String,
}

/// One exchange. What is not known is left out. Nothing in it is a text but words of this
/// program: models, tenants, objectives and endpoints are numbers in the order in which they were
/// first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// When the request's headers came, microseconds after the recording began.
    pub at_us: u64,
    /// Size of the request's body.
    pub bytes: u64,
    /// The prompt, as pieces of prompts: number of the piece, and how many blocks of it. Prompts
    /// begin alike exactly as far as their pieces do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt: Vec<(u32, u32)>,
    /// Tokens of a block, four bytes of text each, where it is not [`BLOCK_TOKENS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_tokens: Option<u32>,
    /// Prompts of the request, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<u32>,
    /// Four bytes each, all prompts together, the last block's share included.
    #[serde(default)]
    pub estimated_tokens: u64,
    /// What the endpoint reported ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// ... and what was believed to be cached there when it was picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_tokens: Option<u64>,
    /// The request's cap on output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<u32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Where it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<u32>,
    /// Endpoints of the pool when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<u32>,
    /// What it waited in the queue, where it had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_us: Option<u64>,
    /// From the request's headers to the first byte of the response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_us: Option<u64>,
    /// From the request's headers to the end.
    #[serde(default)]
    pub duration_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The response came as a stream of events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Pieces in which a stream's body came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
    /// Bytes of the response's body.
    #[serde(default)]
    pub answer_bytes: u64,
    /// How it ended, as in the log.
    #[serde(default)]
    pub end: Cow<'static, str>,
    /// The code of our error, where the client got one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Cow<'static, str>>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl Row {
    /// True where the endpoint answered to the end, without an error.
    pub fn is_answered(&self) -> bool {
        self.refused.is_none()
            && self.end == "complete"
            && self.status.is_none_or(|status| status < 400)
    }
}
