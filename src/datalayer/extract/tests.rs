use proptest::prelude::*;

use super::ProblemKind::*;
use super::*;
use crate::scrape_config::EngineMaps;

const ALL: Needs = Needs { queue: true, running: true, kv: true, lora: true, cache: true };
const VLLM: &str = include_str!("../../../tests/fixtures/vllm-metrics.txt");

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn plan(engine: &str, needs: Needs) -> Plan {
    Plan::new(EngineMaps::default().find(engine).expect("a built-in engine"), needs)
}

fn read(engine: &str, needs: Needs, text: &str) -> Reading {
    plan(engine, needs).read(text.as_bytes(), &mut Layout::default())
}

fn kinds(reading: &Reading) -> Vec<ProblemKind> {
    reading.problems.iter().map(|p| p.kind).collect()
}

#[test]
fn a_real_vllm() {
    let expected = Reading {
        waiting: Some(4),
        running: Some(5),
        kv_usage: Some(0.43639921722113506),
        lora: None,
        block_size: Some(32),
        num_blocks: Some(512),
        ..Reading::default()
    };
    assert_eq!(read("vllm", ALL, VLLM), expected);
}

#[test]
fn what_nobody_needs_is_not_read() {
    let none = Reading::default();
    let cases = [
        (Needs::default(), none.clone()),
        (Needs { queue: true, ..Needs::default() }, Reading { waiting: Some(4), ..none.clone() }),
        (Needs { running: true, ..Needs::default() }, Reading { running: Some(5), ..none.clone() }),
        (
            Needs { cache: true, lora: true, ..Needs::default() },
            Reading { block_size: Some(32), num_blocks: Some(512), ..none.clone() },
        ),
    ];
    for (needs, expected) in cases {
        assert_eq!(read("vllm", needs, VLLM), expected, "{needs:?}");
    }
    assert!(plan("vllm", Needs::default()).is_empty());
    assert!(plan("triton", Needs { kv: true, ..Needs::default() }).is_empty());
}

#[test]
fn other_engines() {
    let sglang = r#"sglang:num_running_reqs{model="m"} 2.0
sglang:num_queue_reqs{model="m"} 3.0
sglang:token_usage{model="m"} 0.25
sglang:cache_config_info{num_pages="1000",page_size="16"} 1.0
"#;
    let trtllm = "trtllm_num_requests_waiting 3
trtllm_num_requests_running 2
trtllm_kv_cache_utilization 0.25
trtllm_kv_cache_tokens_per_block 16
trtllm_kv_cache_max_blocks 1000
";
    let triton_trt = r#"# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="m",request_type="context",version="1"} 9
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 2
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 3
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.25
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 16
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m"} 250
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 1000
"#;
    let triton = "# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model=\"m\"} 2
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model=\"m\"} 3
";
    let full = Reading {
        waiting: Some(3),
        running: Some(2),
        kv_usage: Some(0.25),
        block_size: Some(16),
        num_blocks: Some(1000),
        ..Reading::default()
    };
    let bare = Reading { waiting: Some(3), running: Some(2), ..Reading::default() };
    let cases = [
        ("sglang", sglang, &full),
        ("trtllm-serve", trtllm, &full),
        ("triton-tensorrt-llm", triton_trt, &full),
        ("triton", triton, &bare),
    ];
    for (engine, text, expected) in cases {
        assert_eq!(read(engine, ALL, text), *expected, "{engine}");
    }
}

#[test]
fn which_series_counts_and_what_it_is_worth() {
    let waiting = Needs { queue: true, ..Needs::default() };
    let name = "vllm:num_requests_waiting";
    let cases: &[(&str, Result<u32, ProblemKind>)] = &[
        ("NAME 3\n", Ok(3)),
        ("NAME{a=\"b\"} 3.99\n", Ok(3)),
        ("NAME 1e10\n", Ok(u32::MAX)),
        ("NAME 0\n", Ok(0)),
        ("# TYPE NAME counter\nNAME 3\n", Ok(3)),
        ("NAME{e=\"0\"} 1\nNAME{e=\"1\"} 2\n", Ok(1)),
        ("NAME{e=\"0\"} 1 10\nNAME{e=\"1\"} 2 30\nNAME{e=\"2\"} 3 20\n", Ok(2)),
        ("NAME{e=\"0\"} 1 10\nNAME{e=\"1\"} 2 10\n", Ok(1)),
        ("NAME{e=\"0\"} 1\nNAME{e=\"1\"} 2 -10\n", Ok(2)),
        ("NAME{e=\"0\" 1\nNAME{e=\"1\"} 2\n", Ok(2)),
        ("NAME_total 3\n", Err(Missing)),
        ("<html>It works!</html>\n", Err(Missing)),
        ("", Err(Missing)),
        ("NAME NaN\n", Err(BadValue)),
        ("NAME +Inf\n", Err(BadValue)),
        ("NAME -1\n", Err(BadValue)),
        ("NAME{e=\"0\"} 1 10\nNAME{e=\"1\"} NaN 20\n", Err(BadValue)),
        ("NAME{e=\"0\" 1\n", Err(Malformed)),
        ("# TYPE NAME summary\nNAME{quantile=\"0.5\"} 3\n", Err(NotAGauge)),
    ];
    for (text, expected) in cases {
        let reading = read("vllm", waiting, &text.replace("NAME", name));
        assert_eq!(reading.waiting, expected.ok(), "{text:?}");
        assert_eq!(kinds(&reading), expected.err().as_slice(), "{text:?}");
    }
    let other_label = "nv_trt_llm_request_metrics{request_type=\"context\"} 9\n";
    assert_eq!(kinds(&read("triton-tensorrt-llm", waiting, other_label)), [NoMatchingSeries]);
}

#[test]
fn kv_usage_under_either_name_and_never_above_one() {
    let needs = Needs { kv: true, ..Needs::default() };
    let cases = [
        ("vllm:kv_cache_usage_perc 0.5\n", Some(0.5)),
        ("vllm:gpu_cache_usage_perc 0.5\n", Some(0.5)),
        ("vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.25\n", Some(0.25)),
        ("vllm:kv_cache_usage_perc 43.5\n", Some(1.0)),
        ("vllm:kv_cache_usage_perc -0.1\n", None),
        ("vllm:cache_usage_perc 0.5\n", None),
    ];
    for (text, expected) in cases {
        assert_eq!(read("vllm", needs, text).kv_usage, expected, "{text:?}");
    }
}

#[test]
fn the_newer_name_of_kv_usage_is_taken_up_when_it_appears() {
    let plan = plan("vllm", Needs { kv: true, ..Needs::default() });
    let mut layout = Layout::default();
    let mut kv_usage = |text: &str| plan.read(text.as_bytes(), &mut layout).kv_usage;
    assert_eq!(kv_usage("vllm:gpu_cache_usage_perc 0.5\n"), Some(0.5));
    let both = "vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.25\n";
    assert_eq!(kv_usage(both), Some(0.25));
}

#[test]
fn adapters() {
    let needs = Needs { lora: true, ..Needs::default() };
    let set = |running: &[&str], waiting: &[&str], max| {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Some(LoraSignals { running: owned(running), waiting: owned(waiting), max })
    };
    let cases = [
        (
            r#"NAME{max_lora="4",running_lora_adapters="a, b ,",waiting_lora_adapters=" c"} 1.7e9"#,
            set(&["a", "b"], &["c"], 4),
        ),
        (
            concat!(
                "NAME{max_lora=\"4\",running_lora_adapters=\"old\"} 10\n",
                "NAME{max_lora=\"4\",running_lora_adapters=\"new\"} 30\n",
                "NAME{max_lora=\"4\",running_lora_adapters=\"older\"} 20",
            ),
            set(&["new"], &[], 4),
        ),
        (
            "NAME{running_lora_adapters=\"odd\"} NaN\nNAME{running_lora_adapters=\"new\"} 1",
            set(&["new"], &[], 0),
        ),
        (
            r#"NAME{max_lora="0",running_lora_adapters="",waiting_lora_adapters=""} 1"#,
            set(&[], &[], 0),
        ),
        (r#"NAME{max_lora="many",running_lora_adapters="a"} 1"#, set(&["a"], &[], 0)),
        (
            r#"NAME{max_lora="3",running_lora_adapters="a,a,b",waiting_lora_adapters="a"} 0"#,
            set(&["a", "b"], &["a"], 3),
        ),
        ("other 1", None),
    ];
    let read = |text: &str| {
        read("vllm", needs, &format!("{}\n", text.replace("NAME", "vllm:lora_requests_info")))
    };
    for (text, expected) in cases {
        let reading = read(text);
        assert_eq!(reading.lora, expected, "{text:?}");
        assert!(reading.problems.is_empty(), "adapters may be left out");
    }
    for value in ["NaN", "-1", "-Inf"] {
        let reading = read(&format!("NAME{{running_lora_adapters=\"a\"}} {value}"));
        assert_eq!((reading.lora, reading.problems.len()), (None, 1), "{value}");
    }
}

#[test]
fn cache_geometry_in_labels() {
    let needs = Needs { cache: true, ..Needs::default() };
    let cases = [
        (r#"NAME{block_size="16",num_gpu_blocks="512"} 1"#, [Some(16), Some(512)], None),
        (r#"NAME{num_gpu_blocks="512"} 1"#, [Some(0), Some(512)], None),
        (r#"NAME{block_size="16"} 1"#, [Some(16), Some(0)], None),
        (r#"NAME{block_size="16",num_gpu_blocks="None"} 1"#, [Some(16), None], Some(BadLabel)),
        (r#"NAME{block_size="-1",num_gpu_blocks="512"} 1"#, [None, Some(512)], Some(BadLabel)),
        ("other 1", [None, None], Some(Missing)),
    ];
    for (text, expected, problem) in cases {
        let text = format!("{}\n", text.replace("NAME", "vllm:cache_config_info"));
        let reading = read("vllm", needs, &text);
        assert_eq!([reading.block_size, reading.num_blocks], expected, "{text}");
        assert_eq!(kinds(&reading), problem.as_slice(), "{text}");
    }
}

#[test]
fn problems_name_the_metric() {
    let reading = read(
        "triton-tensorrt-llm",
        ALL,
        "nv_trt_llm_request_metrics{request_type=\"waiting\"} NaN\n",
    );
    let text = plan("triton-tensorrt-llm", ALL).describe(&reading);
    assert!(
        text.starts_with(
            "nv_trt_llm_request_metrics{request_type=\"waiting\"} has a value that is not a number \
             from 0 up; nv_trt_llm_request_metrics{request_type=\"scheduled\"} has no series"
        ),
        "{text}"
    );
}

#[test]
fn what_could_be_read_is_stored_and_the_rest_stays() {
    let signals = Signals::default();
    let lora = LoraSignals { running: vec!["a".into()], ..LoraSignals::default() };
    let first = Reading {
        waiting: Some(1),
        running: Some(2),
        kv_usage: Some(0.5),
        lora: Some(lora.clone()),
        block_size: Some(16),
        num_blocks: Some(100),
        ..Reading::default()
    };
    first.store(&signals, at(10));
    Reading { waiting: Some(7), ..Reading::default() }.store(&signals, at(20));
    let values = signals.load();
    assert_eq!((values.waiting, values.running, values.kv_usage), (7, 2, 0.5));
    assert_eq!((values.block_size, values.num_blocks), (16, 100));
    assert_eq!(values.updated_at, Some(at(20)));
    assert_eq!(signals.lora().as_deref(), Some(&lora));
    let problem = Problem { want: 0, kind: Missing };
    Reading { problems: vec![problem], ..Reading::default() }.store(&signals, at(30));
    assert_eq!(signals.load().updated_at, Some(at(20)), "nothing could be read");
    Reading::default().store(&signals, at(40));
    assert_eq!(signals.load().updated_at, Some(at(40)), "nothing was to be read");
    assert_eq!(signals.load().waiting, 7);
}

#[test]
fn the_beginning_is_enough_once_the_layout_is_known() {
    let plan = plan("vllm", ALL);
    let mut layout = Layout::default();
    assert_eq!(plan.read_prefix(VLLM.as_bytes(), &mut layout), None, "nothing is known yet");
    plan.read(VLLM.as_bytes(), &mut layout);
    assert!(layout.prefix() < VLLM.len() / 4, "{} of {}", layout.prefix(), VLLM.len());
    let changed = VLLM.replace(
        "num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 4.0",
        "num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 123456.0",
    );
    let beginning = &changed.as_bytes()[..layout.prefix()];
    let reading = plan.read_prefix(beginning, &mut layout).expect("all live families are in it");
    assert_eq!((reading.waiting, reading.running), (Some(123_456), Some(5)));
    assert_eq!((reading.block_size, reading.num_blocks), (None, None));
    assert!(reading.problems.is_empty());
    // A family that is gone, or cut, takes the whole text to tell.
    let gone = changed.replace("vllm:kv_cache_usage_perc", "vllm:something_else_entirely");
    assert_eq!(plan.read_prefix(gone.as_bytes(), &mut layout), None);
    let cut = VLLM.find("vllm:kv_cache_usage_perc{").expect("there") + 30;
    assert_eq!(plan.read_prefix(&VLLM.as_bytes()[..cut], &mut layout), None);
}

/// An exposition with every vLLM family we read and some we do not, in any order.
fn exposition() -> impl Strategy<Value = (String, Reading)> {
    let values = (0u32..1000, 0u32..1000, 0f64..=1.0, 1u32..512, 1u32..100_000);
    let noise = proptest::collection::vec(("[a-z]{1,8}(:[a-z]{1,8})?", any::<f64>()), 0..40);
    let label = "[ -~]{0,20}".prop_map(|s| s.replace('\\', "\\\\").replace('"', "\\\""));
    (values, noise, label, any::<u64>()).prop_map(
        |((waiting, running, kv_usage, block_size, num_blocks), noise, label, seed)| {
            let mut families = vec![
                format!("vllm:num_requests_waiting{{model_name=\"{label}\"}} {waiting}\n"),
                format!("vllm:num_requests_running{{model_name=\"{label}\"}} {running}.0\n"),
                format!("vllm:kv_cache_usage_perc{{model_name=\"{label}\"}} {kv_usage:?}\n"),
                format!(
                    "vllm:cache_config_info{{x=\"{label}\",block_size=\"{block_size}\",\
                     num_gpu_blocks=\"{num_blocks}\"}} 1.0\n"
                ),
            ];
            families.extend(noise.iter().map(|(name, value)| {
                format!(
                    "# HELP {name} vllm:num_requests_waiting 5\n{name}{{a=\"{label}\"}} {value:?}\n"
                )
            }));
            fastrand::Rng::with_seed(seed).shuffle(&mut families);
            let reading = Reading {
                waiting: Some(waiting),
                running: Some(running),
                kv_usage: Some(kv_usage),
                block_size: Some(block_size),
                num_blocks: Some(num_blocks),
                ..Reading::default()
            };
            (families.concat(), reading)
        },
    )
}

proptest! {
    #[test]
    fn what_was_exposed_is_read_whatever_the_order(
        (first, first_reading) in exposition(),
        (second, second_reading) in exposition(),
        cut in 0.0f64..1.0,
    ) {
        let plan = plan("vllm", ALL);
        let mut layout = Layout::default();
        prop_assert_eq!(plan.read(first.as_bytes(), &mut layout), first_reading);
        // With what is remembered of another text, a part is either read right or not at all.
        let part = &second.as_bytes()[..(second.len() as f64 * cut) as usize];
        if let Some(reading) = plan.read_prefix(part, &mut layout) {
            let live = Reading { block_size: None, num_blocks: None, ..second_reading.clone() };
            prop_assert_eq!(reading, live);
        }
        prop_assert_eq!(plan.read(second.as_bytes(), &mut layout), second_reading);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes: Vec<u8>, lines in "(vllm:(num_requests_waiting|kv_cache_usage_perc|lora_requests_info|cache_config_info)[{}\"=, \\\\a-c0-9\n]{0,20}\n){0,8}") {
        for engine in ["vllm", "triton-tensorrt-llm"] {
            let plan = plan(engine, ALL);
            let mut layout = Layout::default();
            plan.read(lines.as_bytes(), &mut layout);
            plan.read_prefix(&bytes, &mut layout);
            plan.read(&bytes, &mut layout);
            plan.read_prefix(lines.as_bytes(), &mut layout);
        }
    }
}
