//! Whatever stands in a configuration, it is rewritten or refused; what loaded before loads
//! afterwards.
#![no_main]

use epp::endpoints::PoolIds;
use epp::loader::{LoadOptions, load};
use epp::migrate::migrate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(migrated) = migrate(text) else { return };
    let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
    let loads = |text: &str| load("fuzz", Some(text), &options, &PoolIds::default());
    if !text.is_empty() && loads(text).0.is_some() {
        let (pipeline, diagnostics) = loads(&migrated.text);
        assert!(pipeline.is_some(), "{}\n{diagnostics}", migrated.text);
    }
});
