//! Whatever a file holds, it is read as a recording or refused with a text of ours; what was read
//! of a recording is what a shorter piece of it begins with.
#![no_main]

use std::path::Path;

use epp::recording::read_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = Path::new("fuzz");
    let half = read_file(file, &bytes[..bytes.len() / 2]);
    match read_file(file, bytes) {
        Err(error) => assert!(error.to_string().starts_with("fuzz"), "{error}"),
        Ok(whole) => {
            if let Ok(half) = half {
                assert!(whole.rows.starts_with(&half.rows));
            }
        }
    }
});
