//! Whatever an admin port answers, it is shown without a word that a terminal obeys; whatever is
//! asked of the decisions, it is answered or refused with a text of ours.
#![no_main]

use epp::console::{Column, Pool};
use epp::telemetry::DecisionQuery;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(answer) = serde_json::from_slice(bytes) {
        let pool = Pool::read(&answer);
        for column in Column::ALL {
            let table = pool.plain(column);
            assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    if let Err(wrong) = DecisionQuery::read(pairs) {
        assert!(wrong.len() < 100 && wrong.is_ascii(), "{wrong}");
    }
});
