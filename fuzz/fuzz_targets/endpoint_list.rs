//! Any list is read or refused; endpoints that are read have distinct names and ports.
#![no_main]

use std::collections::HashSet;

use epp::discovery::parse_endpoint_list;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match parse_endpoint_list(text) {
    Ok(endpoints) => {
        let names: HashSet<_> = endpoints.iter().map(|e| &e.name).collect();
        assert!(!endpoints.is_empty() && names.len() == endpoints.len());
        assert!(endpoints.iter().all(|e| e.port != 0));
    }
    Err(mistakes) => assert!(!mistakes.is_empty()),
});
