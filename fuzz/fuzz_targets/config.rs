//! Any text is loaded or refused; what is loaded can be written out and loaded again.
#![no_main]

use epp::endpoints::PoolIds;
use epp::loader::{LoadOptions, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let options = LoadOptions::default();
    let (pipeline, diagnostics) = load("fuzz", Some(text), &options, &PoolIds::default());
    assert_eq!(pipeline.is_some(), !diagnostics.has_errors());
    let Some(pipeline) = pipeline else { return };
    let effective = pipeline.effective.to_yaml().expect("what was read can be written");
    let (again, diagnostics) = load("effective", Some(&effective), &options, &PoolIds::default());
    let again = again.unwrap_or_else(|| panic!("{effective}\n{diagnostics}"));
    assert_eq!(again.effective, pipeline.effective);
});
