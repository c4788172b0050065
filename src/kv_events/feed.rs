use std::sync::Arc;

use super::counters::Counters;
use super::decode::Decoder;
use super::event::{Event, GroupKind, Removed, Stored, tier};
use crate::kv_index::{Extra, Holder, KvIndex, Run};

/// KV-cache groups remembered of one publisher.
const MAX_GROUPS: usize = 256;

/// Writes what one publisher says into the index.
///
/// Knows nothing of sockets: it is handed payloads in order, and told when something was lost.
#[derive(Debug)]
pub struct Feed {
    index: Arc<KvIndex>,
    holder: Arc<Holder>,
    counters: Arc<Counters>,
    decoder: Decoder,
    /// Groups that need not hold whole prefixes. Removals name the group only.
    partial_groups: Vec<u32>,
}

impl Feed {
    pub fn new(index: Arc<KvIndex>, holder: Arc<Holder>, counters: Arc<Counters>) -> Self {
        Self { index, holder, counters, decoder: Decoder::default(), partial_groups: Vec::new() }
    }

    /// Takes in one batch. Returns when the engine says it made it, in seconds since 1970; `None`
    /// where the batch could not be read, in part or at all.
    pub fn apply(&mut self, payload: &[u8]) -> Option<f64> {
        let Self { index, holder, counters, decoder, partial_groups } = self;
        let mut writer = Writer { index, holder, counters, partial_groups };
        let batch = match decoder.decode(payload, &mut |event| writer.event(event)) {
            Ok(batch) => batch,
            Err(_) => {
                self.counters.malformed_batches.add(1);
                return None;
            }
        };
        self.counters.batches.add(1);
        self.counters.events.add(batch.events as usize);
        self.counters.malformed_events.add(batch.malformed as usize);
        self.counters.unknown_events.add(batch.unknown as usize);
        self.counters.oversized_events.add(batch.oversized as usize);
        Some(batch.made_at)
    }

    /// What is known can no longer be relied upon.
    pub fn reset(&mut self) {
        self.counters.resets.add(1);
        self.partial_groups.clear();
        self.holder.clear();
    }

    pub fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// A feed without its decoder, which lends out the events meanwhile.
struct Writer<'a> {
    index: &'a KvIndex,
    holder: &'a Holder,
    counters: &'a Counters,
    partial_groups: &'a mut Vec<u32>,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Stored(stored) => self.stored(&stored),
            Event::Removed(removed) => self.removed(&removed),
            Event::Cleared => {
                self.counters.clears.add(1);
                self.holder.clear();
            }
        }
    }

    fn stored(&mut self, stored: &Stored<'_>) {
        let counters = self.counters;
        if !self.is_counted(stored) {
            counters.blocks_of_partial_groups.add(stored.hashes.len());
            return;
        }
        if stored.is_remote {
            counters.blocks_remote.add(stored.hashes.len());
            return;
        }
        let by_id;
        let adapter = match (stored.lora_name, stored.lora_id) {
            (Some(name), _) => {
                self.index.note_adapter(name);
                name
            }
            // Requests name adapters, so what is known by number only is never asked for; but it
            // must not be taken for what the base model holds.
            (None, Some(id)) => {
                by_id = format!("\0lora {id}");
                &by_id
            }
            (None, None) => "",
        };
        let run = Run {
            names: stored.hashes,
            // Some engines write "none" as 0.
            parent: stored.parent.filter(|&parent| parent != 0),
            tokens: stored.tokens,
            block_size: stored.block_size,
            adapter,
            tier: tier(stored.medium),
        };
        let outcome = self.holder.store(run, extras(stored));
        counters.blocks_added.add(outcome.added);
        counters.blocks_known.add(outcome.known);
        counters.blocks_detached.add(outcome.detached);
        counters.blocks_mismatched.add(outcome.mismatched);
        counters.blocks_refused.add(outcome.refused);
        counters.blocks_evicted.add(outcome.evicted);
        counters.blocks_renamed.add(outcome.renamed);
    }

    /// False for blocks of a group that need not hold whole prefixes, which is noted.
    fn is_counted(&mut self, stored: &Stored<'_>) -> bool {
        let Some(group) = stored.group else { return stored.kind != Some(GroupKind::Partial) };
        let known = self.partial_groups.contains(&group);
        match stored.kind {
            Some(GroupKind::Partial) if !known && self.partial_groups.len() < MAX_GROUPS => {
                self.partial_groups.push(group);
                false
            }
            Some(GroupKind::Partial) => false,
            Some(GroupKind::Full) => {
                self.partial_groups.retain(|&other| other != group);
                true
            }
            None => !known,
        }
    }

    fn removed(&mut self, removed: &Removed<'_>) {
        let counters = self.counters;
        if removed.group.is_some_and(|group| self.partial_groups.contains(&group)) {
            counters.blocks_of_partial_groups.add(removed.hashes.len());
            return;
        }
        if removed.is_remote {
            counters.blocks_remote.add(removed.hashes.len());
            return;
        }
        let unknown = self.holder.remove(removed.hashes, tier(removed.medium));
        counters.blocks_removed.add(removed.hashes.len().saturating_sub(unknown));
        counters.blocks_removed_unknown.add(unknown);
    }
}

/// What beside its tokens makes a block differ. The adapter's name is among it in some releases;
/// it is in the key already.
fn extras<'a>(stored: &Stored<'a>) -> impl Iterator<Item = Extra<'a>> + use<'a> {
    let Stored { extras, payload, lora_name, .. } = *stored;
    let bytes =
        |place: &std::ops::Range<u32>| payload.get(place.start as usize..place.end as usize);
    let all = extras.iter().map(move |(block, place)| (*block, bytes(place).unwrap_or_default()));
    all.filter(move |&(_, bytes)| lora_name.is_none_or(|name| name.as_bytes() != bytes))
}
