//! Whatever publishers of KV events send, as frames or as payloads, reading it does no harm.

#![no_main]

use std::sync::Arc;

use bytes::BytesMut;
use epp::kv_events::{Counters, Decoder, Event, Feed};
use epp::kv_index::{KvIndex, Limits};
use epp::kv_sockets::zmtp::take_frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (payload, wire) = input;
    let mut decoder = Decoder::default();
    let mut whole = 0;
    let result = decoder.decode(payload, &mut |event| {
        whole += 1;
        if let Event::Stored(stored) = event {
            for (_, place) in stored.extras {
                assert!(payload.get(place.start as usize..place.end as usize).is_some());
            }
        }
    });
    if let Ok(batch) = result {
        assert_eq!(batch.events, whole);
    }
    let limits = Limits { bytes: 1 << 16, blocks_per_holder: 64 };
    let index = Arc::new(KvIndex::new(limits, 7));
    let holder = Arc::new(index.holder());
    let mut feed = Feed::new(index, holder.clone(), Arc::new(Counters::default()));
    for _ in 0..2 {
        feed.apply(payload);
        assert!(holder.len() <= 64);
    }
    let mut buffer = BytesMut::from(wire);
    while let Ok(Some(_)) = take_frame(&mut buffer, 4096) {}
});
