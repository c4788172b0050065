//! What predictions are made from.

/// What is known of a request and an endpoint at the moment the endpoint is chosen.
///
/// Counts of tokens and requests. What is in flight is what this router sent there and has not
/// ended, the request itself excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features {
    /// Share of the endpoint's KV cache in use, 0 to 1, as scraped.
    pub kv_usage: f64,
    /// Requests in the endpoint's queue, as scraped.
    pub waiting: f64,
    /// Requests the endpoint runs, as scraped.
    pub running: f64,
    /// Tokens of the request's prompt.
    pub input_tokens: f64,
    /// Those of them believed to be in the endpoint's prefix cache.
    pub cached_tokens: f64,
    /// Size of the request's multimodal items.
    pub encoder_input: f64,
    /// The part of it believed to be in the endpoint's encoder cache.
    pub encoder_matched: f64,
    /// Requests in flight whose answer has not begun.
    pub prefilling: f64,
    /// Requests in flight whose answer has begun.
    pub decoding: f64,
    /// Uncached prompt tokens of the requests whose answer has not begun.
    pub prefill_tokens: f64,
    /// Prompt tokens of all requests in flight, cached ones included.
    pub context_tokens: f64,
}

/// Most tokens of one prompt, in flight at one endpoint, and most requests there: what is beyond
/// is a broken counter, not traffic.
const MAX_PROMPT: f64 = 4e6;
const MAX_IN_FLIGHT: f64 = 1e8;
const MAX_REQUESTS: f64 = 1e5;

/// Number of terms of [`Features::ttft_terms`].
pub(super) const TTFT_TERMS: usize = 15;
/// Number of terms of [`Features::tpot_terms`].
pub(super) const TPOT_TERMS: usize = 11;

/// `value` within `0..=max`; what is not a number counts as nothing.
fn clean(value: f64, max: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, max) }
}

impl Features {
    /// The same with every value in its range.
    fn cleaned(&self) -> Self {
        let input_tokens = clean(self.input_tokens, MAX_PROMPT);
        let encoder_input = clean(self.encoder_input, MAX_PROMPT);
        Self {
            kv_usage: clean(self.kv_usage, 1.0),
            waiting: clean(self.waiting, MAX_REQUESTS),
            running: clean(self.running, MAX_REQUESTS),
            input_tokens,
            cached_tokens: clean(self.cached_tokens, input_tokens),
            encoder_input,
            encoder_matched: clean(self.encoder_matched, encoder_input),
            prefilling: clean(self.prefilling, MAX_REQUESTS),
            decoding: clean(self.decoding, MAX_REQUESTS),
            prefill_tokens: clean(self.prefill_tokens, MAX_IN_FLIGHT),
            context_tokens: clean(self.context_tokens, MAX_IN_FLIGHT),
        }
    }

    /// What adds up to the time to the first token. Each term is something that costs a server
    /// time or makes the request wait, scaled to the order of one; none is negative.
    pub(super) fn ttft_terms(&self) -> [f64; TTFT_TERMS] {
        let f = self.cleaned();
        let own = f.input_tokens - f.cached_tokens;
        let work = own + f.prefill_tokens;
        [
            1.0,
            own / 1e3,
            // Parsing and hashing take the whole prompt, cached or not.
            f.input_tokens / 1e3,
            // Attention: every new token looks at all before it.
            own * (f.cached_tokens + own / 2.0) / 1e7,
            if f.cached_tokens > 0.0 { 1.0 } else { 0.0 },
            (f.encoder_input - f.encoder_matched) / 1e3,
            // Prompts that come first.
            f.prefill_tokens / 1e3,
            f.prefilling,
            if f.prefilling > 0.0 { 1.0 } else { 0.0 },
            // Decoding shares the steps in which prompts are computed: one step, and as many
            // more as the prompts are long.
            f.decoding / 16.0,
            f.context_tokens / 1e5,
            work * f.decoding / 1e5,
            work * f.context_tokens / 1e9,
            // A queue that stands because the batch or the KV cache is full moves as fast as
            // answers end, whatever its prompts are.
            f.waiting,
            f.waiting * f.running / 64.0,
        ]
    }

    /// What adds up to the mean time between the tokens of the answer, likewise.
    pub(super) fn tpot_terms(&self) -> [f64; TPOT_TERMS] {
        let f = self.cleaned();
        let requests = f.prefilling + f.decoding;
        [
            1.0,
            requests / 16.0,
            // Steps take longer per sequence once the batch is large.
            (requests - 64.0).max(0.0) / 16.0,
            requests.sqrt(),
            if requests > 0.0 { 1.0 } else { 0.0 },
            f.context_tokens / 1e5,
            f.input_tokens / 1e4,
            // Prompts still to be computed interrupt the answer.
            f.prefill_tokens / 1e3,
            f.prefilling,
            f.waiting,
            f.kv_usage,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_finite_and_not_negative_whatever_comes_in() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX, 1e300] {
            let f = Features {
                kv_usage: bad,
                waiting: bad,
                running: bad,
                input_tokens: bad,
                cached_tokens: bad,
                encoder_input: bad,
                encoder_matched: bad,
                prefilling: bad,
                decoding: bad,
                prefill_tokens: bad,
                context_tokens: bad,
            };
            let terms = f.ttft_terms().into_iter().chain(f.tpot_terms());
            assert!(terms.into_iter().all(|t| t.is_finite() && t >= 0.0), "{bad}");
        }
    }

    #[test]
    fn no_more_is_cached_than_there_is() {
        let f = Features { input_tokens: 100.0, cached_tokens: 5000.0, ..Default::default() };
        assert_eq!(f.ttft_terms()[1], 0.0);
    }
}
