//! Any arguments and variables are read or refused with a reason.
#![no_main]

use epp::cli::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // The first line is the value of every variable, the others are arguments.
    let mut lines = text.lines();
    let variable = lines.next().map(str::to_owned);
    let arguments: Vec<String> = lines.map(str::to_owned).collect();
    for environment in [None, variable] {
        if let Err(exit) = parse(&arguments, |_| environment.clone()) {
            assert!(!exit.text.is_empty());
        }
    }
});
