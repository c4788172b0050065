//! One line in the log for all kinds that cannot be read and can be done without.
//!
//! A Role that lets a picker read only pods and pools, such as the one KServe 0.16 writes, lacks
//! several at once; a line for each looks like as many faults where there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Kinds are asked for at the same time, so what is refused is known within this.
const TOGETHER: Duration = Duration::from_secs(1);

struct Note {
    kind: String,
    without: &'static str,
    reason: String,
}

/// Takes note of kinds; clones write into one line.
#[derive(Clone)]
pub(super) struct Unreadable(mpsc::UnboundedSender<Note>);

impl Unreadable {
    /// Starts the task that says the line; `most` is the longest wait until a kind is looked for
    /// again.
    pub(super) fn start(most: Duration) -> (Self, AbortOnDropHandle<()>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), AbortOnDropHandle::new(tokio::spawn(say(receiver, most))))
    }

    /// `kind` cannot be read for this `reason`; `without` says what that means.
    pub(super) fn note(&self, kind: &str, without: &'static str, reason: String) {
        // Without a reader discovery has ended, and nobody wants to know.
        let _ = self.0.send(Note { kind: kind.to_owned(), without, reason });
    }
}

async fn say(mut notes: mpsc::UnboundedReceiver<Note>, most: Duration) {
    while let Some(first) = notes.recv().await {
        let mut together = vec![first];
        // Ends with the time, or with the last sender; either way the line is due.
        let _ = tokio::time::timeout(TOGETHER, async {
            while let Some(note) = notes.recv().await {
                together.push(note);
            }
        })
        .await;
        tracing::warn!("{}", line(&together, most));
    }
}

/// What cannot be read, by what that means, and one of the reasons: they are the same but for the
/// name of the kind.
fn line(notes: &[Note], most: Duration) -> String {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for note in notes {
        kinds.entry(note.without).or_default().push(&note.kind);
    }
    let parts: Vec<_> = kinds
        .into_iter()
        .map(|(without, mut kinds)| {
            kinds.sort_unstable();
            format!("without {}: {without}", kinds.join(", "))
        })
        .collect();
    let reason = notes.first().map_or("", |note| &note.reason);
    format!(
        "going on without what cannot be read; {}; looking again at least every {} s ({reason})",
        parts.join("; "),
        most.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_what_their_lack_means() {
        let note = |kind: &str, without| Note {
            kind: kind.to_owned(),
            without,
            reason: format!("{kind} is forbidden (403)"),
        };
        let notes = [
            note("pools (b)", "no pool from there"),
            note("objectives (b)", "priority 0"),
            note("objectives (a)", "priority 0"),
        ];
        assert_eq!(
            line(&notes, Duration::from_secs(30)),
            "going on without what cannot be read; \
             without pools (b): no pool from there; \
             without objectives (a), objectives (b): priority 0; \
             looking again at least every 30 s (pools (b) is forbidden (403))"
        );
    }
}
