use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3Builder;

use crate::tokens::PromptTokens;

/// Entries at most, whatever they take.
const MAX_ENTRIES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Prompts that were rendered a short while ago, by the bytes they were rendered from.
#[derive(Debug)]
pub(super) struct Cache {
    /// Drawn at random: nobody outside can prepare bodies that are taken for one another.
    seed: u64,
    max_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    by_body: LruCache<u128, Arc<[PromptTokens]>>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        let entries = Mutex::new(Entries { by_body: LruCache::new(MAX_ENTRIES), bytes: 0 });
        Self { seed: fastrand::u64(..), max_bytes, entries }
    }

    pub(super) fn key(&self, path: &str, body: &[u8]) -> u128 {
        let mut state = Xxh3Builder::new().with_seed(self.seed).build();
        state.update(path.as_bytes());
        state.update(body);
        state.digest128()
    }

    pub(super) fn get(&self, key: u128) -> Option<Arc<[PromptTokens]>> {
        self.entries.lock().by_body.get(&key).cloned()
    }

    pub(super) fn put(&self, key: u128, prompts: Arc<[PromptTokens]>) {
        let size = size(&prompts);
        if size > self.max_bytes {
            return;
        }
        let mut entries = self.entries.lock();
        entries.bytes += size;
        if let Some((_, old)) = entries.by_body.push(key, prompts) {
            entries.bytes -= self::size(&old);
        }
        while entries.bytes > self.max_bytes {
            let Some((_, old)) = entries.by_body.pop_lru() else { break };
            entries.bytes -= self::size(&old);
        }
    }
}

fn size(prompts: &[PromptTokens]) -> usize {
    prompts.iter().map(PromptTokens::size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(tokens: usize) -> Arc<[PromptTokens]> {
        vec![PromptTokens { ids: vec![1; tokens], media: Vec::new() }].into()
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let cache = Cache::new(3 * size(&prompt(100)));
        let keys = [1, 2, 3, 4].map(|n| cache.key("/render", &[n]));
        keys[..3].iter().for_each(|&key| cache.put(key, prompt(100)));
        assert_eq!(cache.get(keys[0]), Some(prompt(100)));
        cache.put(keys[3], prompt(100));
        let there = keys.map(|key| cache.get(key).is_some());
        assert_eq!(there, [true, false, true, true]);
        // The same again takes nothing more, and what is larger than all room is not kept.
        cache.put(keys[3], prompt(100));
        cache.put(keys[1], prompt(1000));
        assert_eq!(keys.map(|key| cache.get(key).is_some()), there);
    }

    #[test]
    fn paths_and_bodies_are_told_apart() {
        let cache = Cache::new(1000);
        assert_ne!(cache.key("/a", b"x"), cache.key("/b", b"x"));
        assert_ne!(cache.key("/a", b"x"), cache.key("/a", b"y"));
    }
}
