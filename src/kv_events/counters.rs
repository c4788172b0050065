use std::sync::atomic::{AtomicU64, Ordering};

/// Declares counters with their names, so that whoever shows them cannot forget one.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened on one publisher's stream. Counts only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Every counter by name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

/// A number of things that happened.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, number: usize) {
        if number > 0 {
            self.0.fetch_add(number as u64, Ordering::Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Batches that were read.
    batches,
    /// Batches that could not be read, in part or at all.
    malformed_batches,
    /// Messages that are not topic, sequence number and payload.
    malformed_messages,
    /// Events that were read.
    events,
    /// Events that could not be read.
    malformed_events,
    /// Events of unknown types.
    unknown_events,
    /// Events above a limit of the decoder.
    oversized_events,
    /// Blocks that were not held before.
    blocks_added,
    /// Blocks that were held already: another copy, or another tier.
    blocks_known,
    /// Blocks left out because the one before them is not known.
    blocks_detached,
    /// Blocks left out because their tokens do not fill them.
    blocks_mismatched,
    /// Blocks left out because there was no room.
    blocks_refused,
    /// Blocks dropped to make room for others.
    blocks_evicted,
    /// Blocks that changed their name.
    blocks_renamed,
    /// Blocks of groups that need not hold whole prefixes, left out.
    blocks_of_partial_groups,
    /// Blocks in stores that several engines share, left out.
    blocks_remote,
    /// Copies taken back.
    blocks_removed,
    /// Copies taken back that were not known.
    blocks_removed_unknown,
    /// Times the engine dropped all its blocks.
    clears,
    /// Times batches were missing.
    gaps,
    /// Times the publisher began anew.
    restarts,
    /// Times what was known was dropped because it could not be relied upon.
    resets,
    /// Replays asked for.
    replays,
    /// Replays that broke off.
    replays_failed,
    /// Batches that came by replay.
    batches_replayed,
    /// Connections made.
    connects,
    /// Connections that could not be made, or broke.
    disconnects,
    /// Messages whose topic the filter leaves out.
    topics_unmatched,
}
