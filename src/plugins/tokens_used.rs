//! What an exchange has used, in tokens: as the engine reports it, else as far as we can tell.

use super::Parameter;
use crate::scheduling::{AnswerSoFar, InferenceRequest};

/// `includeUsage` of the types that count tokens.
pub(super) const INCLUDE_USAGE: Parameter =
    Parameter::boolean("includeUsage", "ask engines to report the tokens of streams")
        .default("false");

/// Tokens that one exchange has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TokensUsed {
    /// Of the prompt, cached or not.
    pub input: u64,
    pub output: u64,
    /// Of the prompt, found in the engine's cache.
    pub cached_input: u64,
    /// The engine did not report all of it: the rest is our own count of the answer's pieces, or
    /// our estimate of the prompt.
    pub counted: bool,
}

impl TokensUsed {
    /// What `answer` says to a prompt that is estimated at `prompt` tokens. Nothing is used before
    /// the answer begins, or by an answer that is an error and reports nothing. What is reported
    /// as 0 is not reported: engines write that before they know.
    pub(super) fn of(answer: &AnswerSoFar, prompt: u64) -> Self {
        let failed = answer.status.is_some_and(|status| !(200..300).contains(&status));
        let reported = answer.usage.unwrap_or_default();
        if answer.usage.is_none() && (failed || answer.bytes == 0) {
            return Self::default();
        }
        let (no_input, no_output) = (reported.prompt == 0, reported.completion == 0);
        let counted = (no_input && prompt > 0) || (no_output && answer.counted > 0);
        Self {
            input: if no_input { prompt } else { reported.prompt },
            output: if no_output { answer.counted } else { reported.completion },
            cached_input: reported.cached.unwrap_or(0),
            counted,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.input + self.output
    }
}

/// What a request's prompt is taken for before an engine has counted it, tokens: four bytes each,
/// as the reference estimates (llm-d-router main at ebab6879); token ids are counted as they are.
pub(super) fn estimated_prompt(request: &InferenceRequest) -> u64 {
    request.prompt.token_count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::TokenUsage;

    #[test]
    fn what_is_used() {
        let reported = |prompt, completion, cached| Some(TokenUsage { prompt, completion, cached });
        // Status, bytes, what is reported, what was counted: input, output, cached, counted. The
        // prompt is estimated at 10.
        for (case, status, bytes, usage, counted, expected) in [
            ("reported", Some(200), 99, reported(7, 5, Some(4)), 6, (7, 5, 4, false)),
            ("no status is told", None, 99, reported(7, 5, None), 0, (7, 5, 0, false)),
            ("nothing reported", Some(200), 99, None, 6, (10, 6, 0, true)),
            ("the prompt reported first", Some(200), 99, reported(7, 0, None), 6, (7, 6, 0, true)),
            ("an embedding", Some(200), 99, reported(7, 0, None), 0, (7, 0, 0, false)),
            ("zeros", Some(200), 99, reported(0, 0, None), 3, (10, 3, 0, true)),
            ("an answer with nothing in it", Some(200), 99, None, 0, (10, 0, 0, true)),
            ("headers alone", Some(200), 0, None, 0, (0, 0, 0, false)),
            ("an error", Some(503), 99, None, 2, (0, 0, 0, false)),
        ] {
            let answer = AnswerSoFar { status, bytes, usage, counted };
            let used = TokensUsed::of(&answer, 10);
            let got = (used.input, used.output, used.cached_input, used.counted);
            assert_eq!(got, expected, "{case}");
            assert_eq!(used.total(), expected.0 + expected.1, "{case}");
        }
    }
}
