//! What the driven exchanges look like.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::bench::args::{bytes, duration};

/// Shape of every exchange.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Exchanges")]
pub struct Workload {
    /// Text in each chat prompt, shared prefix included.
    #[arg(long, default_value = "1Ki", value_parser = bytes, value_name = "BYTES")]
    pub prompt_bytes: usize,
    /// Text at the head of the prompt that all requests of a group share.
    #[arg(long, default_value = "512", value_parser = bytes, value_name = "BYTES")]
    pub shared_prefix_bytes: usize,
    /// Groups of requests with a shared prefix each; requests go through them in turn.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub groups: u32,
    /// Largest piece of body in one message; a proxy sends what it reads from its client.
    #[arg(long, default_value = "16Ki", value_parser = bytes, value_name = "BYTES")]
    pub chunk_bytes: usize,
    /// Answer with a server-sent stream of N events, one message each; 0 answers with one JSON body.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub sse_events: u32,
    /// Time between two events of a stream; 0 sends all of them at once.
    #[arg(long, default_value = "0", value_parser = duration, value_name = "TIME", requires = "sse_events")]
    pub event_interval: Duration,
    /// Model the requests ask for.
    #[arg(long, default_value = "m")]
    pub model: String,
}

/// Digits that tell one prompt from another; they stand right after the shared prefix.
pub(super) const NONCE_DIGITS: usize = 16;

/// A request body of which only the nonce changes from request to request.
#[derive(Clone, Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// Where the nonce begins.
    pub nonce_at: usize,
}

impl Workload {
    /// # Errors
    /// Where the sizes do not fit together; the text is for the user.
    pub fn check(&self) -> Result<(), String> {
        if self.chunk_bytes == 0 {
            return Err("--chunk-bytes must be at least 1".into());
        }
        if self.prompt_bytes < self.shared_prefix_bytes + NONCE_DIGITS {
            return Err(format!(
                "--prompt-bytes must exceed --shared-prefix-bytes by at least {NONCE_DIGITS}, \
                 so that no two prompts are the same"
            ));
        }
        Ok(())
    }

    /// The chat completion of a group: the shared text is the system message, the rest the user's.
    pub fn body(&self, group: u32) -> Body {
        let mut json = String::with_capacity(self.prompt_bytes + 256);
        let model = serde_json::Value::from(self.model.as_str());
        let stream = self.sse_events > 0;
        let _ = write!(
            json,
            "{{\"model\":{model},\"stream\":{stream},\"max_tokens\":{},\"messages\":[",
            self.sse_events.max(16),
        );
        json.push_str("{\"role\":\"system\",\"content\":\"");
        text(&mut json, self.shared_prefix_bytes, u64::from(group));
        json.push_str("\"},{\"role\":\"user\",\"content\":\"");
        let nonce_at = json.len();
        json.extend(std::iter::repeat_n('0', NONCE_DIGITS));
        let rest = self.prompt_bytes - self.shared_prefix_bytes - NONCE_DIGITS;
        text(&mut json, rest, u64::MAX - u64::from(group));
        json.push_str("\"}]}");
        Body { bytes: json.into_bytes(), nonce_at }
    }
}

/// Appends `len` bytes of words that depend on `seed` alone.
fn text(out: &mut String, len: usize, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let end = out.len() + len;
    while out.len() < end {
        for _ in 0..rng.usize(2..9) {
            out.push(rng.lowercase());
        }
        out.push(' ');
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(prompt_bytes: usize, shared_prefix_bytes: usize) -> Workload {
        Workload {
            prompt_bytes,
            shared_prefix_bytes,
            groups: 2,
            chunk_bytes: 100,
            sse_events: 0,
            event_interval: Duration::ZERO,
            model: "na\"me".into(),
        }
    }

    #[test]
    fn bodies_have_the_size_and_sharing_asked_for() {
        let w = workload(1000, 400);
        let body = w.body(0);
        let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        let content = |i: usize| json["messages"][i]["content"].as_str().unwrap().to_owned();
        assert_eq!(json["model"], "na\"me");
        assert_eq!((content(0).len(), content(1).len()), (400, 600));
        assert!(content(1).starts_with("0000000000000000"));
        assert_eq!(&body.bytes[body.nonce_at..][..NONCE_DIGITS], [b'0'; NONCE_DIGITS]);
        assert_ne!(w.body(1).bytes[..body.nonce_at], body.bytes[..body.nonce_at]);
        assert_eq!(w.body(0).bytes, body.bytes);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(workload(16, 0).check().is_ok());
        assert!(workload(415, 400).check().is_err());
        assert!(Workload { chunk_bytes: 0, ..workload(1000, 0) }.check().is_err());
    }
}
