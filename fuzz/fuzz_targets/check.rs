//! Whatever stands in a file, `epp check` finds configurations in it or says why not.
#![no_main]

use epp::cli::{CheckOptions, check};
use epp::loader::LoadOptions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let options =
        CheckOptions { files: vec!["-".into()], effective: true, load: LoadOptions::default() };
    let exit = check(&options, &mut &bytes[..]);
    assert!(!exit.text.is_empty());
});
