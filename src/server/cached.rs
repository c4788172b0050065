use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::clock::{self, Timestamp};

/// A page that all who ask for it share for a while: a thousand of them cost no more than one.
#[derive(Debug)]
pub(super) struct Cached {
    lasts: Duration,
    page: Mutex<Option<(Timestamp, Bytes)>>,
}

impl Cached {
    /// A page that is made anew when it is older than `lasts`.
    pub(super) fn new(lasts: Duration) -> Self {
        Self { lasts, page: Mutex::default() }
    }

    /// The page; `make` makes it where there is none, beside the threads that exchanges run on.
    /// Whoever asks meanwhile waits for it.
    pub(super) async fn get(&self, make: impl FnOnce() -> Vec<u8> + Send + 'static) -> Bytes {
        let mut page = self.page.lock().await;
        let now = clock::now();
        if let Some((made, bytes)) = &*page
            && now.since(*made) < self.lasts
        {
            return bytes.clone();
        }
        // One that panicked leaves an empty page, which the next one replaces.
        let Ok(bytes) = tokio::task::spawn_blocking(make).await else { return Bytes::new() };
        let bytes = Bytes::from(bytes);
        *page = Some((clock::now(), bytes.clone()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_readers_share_one_page() {
        let (cached, made) = (Arc::new(Cached::new(Duration::MAX)), Arc::new(AtomicUsize::new(0)));
        let readers = (0..100).map(|_| {
            let (cached, made) = (cached.clone(), made.clone());
            tokio::spawn(async move {
                let make = move || vec![b'0' + made.fetch_add(1, Ordering::Relaxed) as u8];
                cached.get(make).await
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert_eq!(reader.await.unwrap(), "0");
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_old_page_is_made_anew() {
        let cached = Cached::new(Duration::ZERO);
        assert_eq!(cached.get(|| vec![b'a']).await, "a");
        assert_eq!(cached.get(|| vec![b'b']).await, "b");
    }
}
