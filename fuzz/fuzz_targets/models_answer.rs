//! Whatever a worker answers to `/v1/models`, it is a list of models or none.

#![no_main]

use epp::datalayer::models::read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    if let Some(models) = read(answer) {
        // Every model takes some of the answer.
        assert!(models.len() <= answer.len());
    }
});
