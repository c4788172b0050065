//! Whatever a worker exposes, reading it does no harm, and what the beginning of a text says is
//! what the whole text says.

#![no_main]

use std::sync::LazyLock;

use epp::datalayer::extract::{Layout, Plan, Reading};
use epp::scrape_config::{EngineMaps, Needs};
use libfuzzer_sys::fuzz_target;

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let needs = Needs { queue: true, running: true, kv: true, lora: true, cache: true };
    EngineMaps::default().engines.iter().map(|map| Plan::new(map, needs)).collect()
});

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (engine, cut, text) = input;
    let plan = &PLANS[usize::from(engine) % PLANS.len()];
    let mut layout = Layout::default();
    let whole = plan.read(text, &mut layout);
    let again = plan.read(text, &mut layout.clone());
    assert_eq!(whole, again, "what is remembered changes nothing");
    let part = &text[..usize::from(cut).min(text.len())];
    if let Some(beginning) = plan.read_prefix(part, &mut layout) {
        let live =
            |reading: Reading| (reading.waiting, reading.running, reading.kv_usage, reading.lora);
        assert_eq!(live(beginning), live(whole));
    }
});
