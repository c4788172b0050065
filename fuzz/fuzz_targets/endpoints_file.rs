//! Any text is read or refused; endpoints that are read have distinct names and ports.
#![no_main]

use std::collections::HashSet;

use epp::config::Diagnostics;
use epp::discovery::parse_endpoints;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let diagnostics = Diagnostics::new("fuzz");
    let specs = parse_endpoints(text, &diagnostics);
    let names: HashSet<_> = specs.iter().map(|s| (&s.namespace, &s.name)).collect();
    assert_eq!(names.len(), specs.len());
    assert!(specs.iter().all(|s| s.port != 0));
    // Findings are printed whatever they are.
    let _ = diagnostics.to_string();
});
