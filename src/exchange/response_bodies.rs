use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::scheduling::ReadsAnswers;

/// Whether the gateway is asked for the bodies of responses (`--response-body`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseBodyChoice {
    /// For all of them: counts of tokens and times of first tokens are complete.
    #[default]
    Always,
    /// Not for streams of events where nothing reads them.
    Auto,
    /// For none, whoever would read them.
    Never,
}

/// Something that goes by what the bodies of responses tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerReader {
    /// The plugin's name, or what it is where it is none.
    pub name: String,
    pub reads: ReadsAnswers,
}

impl fmt::Display for AnswerReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads = match self.reads {
            ReadsAnswers::FirstToken => "the time of the first token",
            ReadsAnswers::Usage => "token counts",
        };
        write!(f, "{} ({reads})", self.name)
    }
}

/// Whether the bodies of one pool's responses are asked for, and what came of it.
#[derive(Debug, Default)]
pub struct ResponseBodies {
    choice: ResponseBodyChoice,
    readers: Vec<AnswerReader>,
    unseen: AtomicU64,
    said_missing: AtomicBool,
    said_sent_anyway: AtomicBool,
}

impl ResponseBodies {
    pub fn new(choice: ResponseBodyChoice, readers: Vec<AnswerReader>) -> Self {
        Self { choice, readers, ..Self::default() }
    }

    /// Whether to ask for a body; `events`: it is a stream of events. Another one comes in few
    /// pieces, so that reading it costs little, and it has the counts of its tokens.
    pub fn wants(&self, events: bool) -> bool {
        match self.choice {
            ResponseBodyChoice::Always => true,
            ResponseBodyChoice::Auto => !events || !self.readers.is_empty(),
            ResponseBodyChoice::Never => false,
        }
    }

    /// Responses whose bodies went by unseen.
    pub fn unseen(&self) -> u64 {
        self.unseen.load(Ordering::Relaxed)
    }

    /// Everything that goes by bodies, in one line; `None` where nothing does.
    pub fn readers(&self) -> Option<String> {
        let mut all = String::new();
        for reader in &self.readers {
            let comma = if all.is_empty() { "" } else { ", " };
            // Writing into a string cannot fail.
            _ = write!(all, "{comma}{reader}");
        }
        (!all.is_empty()).then_some(all)
    }

    /// A response's body goes by unseen. Says so once, where somebody misses it.
    pub(super) fn goes_by(&self) {
        self.unseen.fetch_add(1, Ordering::Relaxed);
        if self.said_missing.load(Ordering::Relaxed) {
            return;
        }
        if self.said_missing.swap(true, Ordering::Relaxed) {
            return;
        }
        match self.readers() {
            Some(readers) => tracing::warn!(
                readers,
                "Bodies of responses are read by plugins, but the gateway does not send them"
            ),
            None => tracing::info!(
                "Bodies of responses go by unseen: counts of tokens and times of first tokens are \
                 not known for them"
            ),
        }
    }

    /// A body is sent though nobody asked for it. Says so once.
    pub(super) fn is_sent_anyway(&self) {
        if !self.said_sent_anyway.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "The gateway sends bodies of responses that nothing reads: it does not let them be \
                 turned off (allow_mode_override in Envoy)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_asked_for_where_somebody_reads_them() {
        use ResponseBodyChoice::*;
        let reader = AnswerReader { name: "quota".into(), reads: ReadsAnswers::Usage };
        let read = vec![reader];
        // The choice, who reads, and whether a stream of events and another body are asked for.
        let cases = [
            (Always, vec![], true, true),
            (Always, read.clone(), true, true),
            (Auto, vec![], false, true),
            (Auto, read.clone(), true, true),
            (Never, vec![], false, false),
            (Never, read, false, false),
        ];
        for (choice, readers, events, other) in cases {
            let what = format!("{choice:?} {readers:?}");
            let bodies = ResponseBodies::new(choice, readers);
            assert_eq!((bodies.wants(true), bodies.wants(false)), (events, other), "{what}");
        }
    }

    #[test]
    fn readers_are_named_with_what_they_read() {
        let of = |name: &str, reads| AnswerReader { name: name.into(), reads };
        let readers = vec![of("a", ReadsAnswers::Usage), of("b", ReadsAnswers::FirstToken)];
        let bodies = ResponseBodies::new(ResponseBodyChoice::Auto, readers);
        let text = "a (token counts), b (the time of the first token)";
        assert_eq!(bodies.readers().as_deref(), Some(text));
        assert_eq!(ResponseBodies::default().readers(), None);
    }
}
