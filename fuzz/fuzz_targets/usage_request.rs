//! Any bytes as a request for a stream, and as the stream: a request is asked
//! for counts once, and what is taken out does not depend on where the stream is cut.
#![no_main]

use bytes::Bytes;
use epp::api::{Api, UsageRemover, with_usage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, body) = input;
    if let Some(asked) = with_usage(Api::Chat, &Bytes::copy_from_slice(body), usize::MAX) {
        assert!(with_usage(Api::Chat, &asked, usize::MAX).is_none(), "asked once");
    }
    let remove = |cuts: &[u8]| {
        let (mut remover, mut out, mut rest) = (UsageRemover::default(), Vec::new(), body);
        for cut in cuts {
            let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
            out.extend_from_slice(&remover.remove(Bytes::copy_from_slice(piece), false));
            rest = after;
        }
        out.extend_from_slice(&remover.remove(Bytes::copy_from_slice(rest), true));
        out
    };
    assert_eq!(remove(&cuts), remove(&[]));
});
