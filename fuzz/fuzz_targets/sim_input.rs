//! Whatever stands in a profile, the engine that comes of it can run; whatever is sent as a fault,
//! it is one or is refused.
#![no_main]

use epp::sim::worker::Fault;
use epp::sim::{Engine, EngineProfile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(mut profile) = EngineProfile::parse("fuzz", text) {
        // An engine keeps some bytes for each of these.
        profile.num_blocks = profile.num_blocks.min(1 << 16);
        profile.block_size = profile.block_size.min(1 << 10);
        profile.max_num_seqs = profile.max_num_seqs.min(1 << 10);
        profile.max_model_len = profile.max_model_len.min(16);
        if profile.config().validate().is_ok() {
            assert!(Engine::new(profile.config()).is_ok());
        }
    }
    if let Ok(fault) = text.parse::<Fault>() {
        assert_eq!(fault.validate(), Ok(()));
    }
});
