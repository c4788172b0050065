//! `epp --record` over real sockets: what it writes, what it never writes, what becomes of it when
//! the program or the disk fails; and `epp-bench replay` of it.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use epp::recording::{Choice, Recording, Row, read};
use serde_json::Value;
use support::client::{Gateway, response_body, response_headers};
use support::eventually;
use support::process::Process;
use support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: &[u8] = br#"{"choices":[{"message":{"content":"canaryanswer"}}],"usage":{"prompt_tokens":300,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":48}}}"#;
const EVENTS: [&[u8]; 3] = [
    b"data: {\"choices\":[{\"delta\":{\"content\":\"canaryevent\"}}]}\n\n",
    b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":310,\"completion_tokens\":2}}\n\n",
    b"data: [DONE]\n\n",
];
/// Every word of requests and answers that may not be found again. Short ones would be found in
/// anything.
const WORDS: [&str; 13] = [
    "canary",
    "lorem",
    "ipsum",
    "dolor",
    "adapter",
    "sensitive",
    "zebra",
    "giraffe",
    "secret",
    "reqid",
    "bearer",
    "chatcmpl",
    "29151",
];

/// Addresses nobody listens at.
fn endpoints() -> Vec<SocketAddr> {
    (29_151..29_153).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}

fn start(dir: &Path, arguments: &[&str]) -> Program {
    let record = format!("--record={}", dir.display());
    let all: Vec<&str> = [record.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    Program::start(TUTORIAL, &endpoints(), &all)
}

fn prompt(last: &str, stream: bool) -> Vec<u8> {
    let shared = "lorem ipsum dolor sensitive canaryprompt ".repeat(30);
    serde_json::json!({
        "model": "adapter-sensitive",
        "user": "canaryuser",
        "stream": stream,
        "messages": [
            {"role": "system", "content": shared},
            {"role": "user", "content": last},
        ],
    })
    .to_string()
    .into_bytes()
}

const HEADERS: [(&str, &str); 5] = [
    ("x-request-id", "reqid-77"),
    ("x-gateway-inference-fairness-id", "zebra-secret"),
    ("x-gateway-inference-objective", "giraffe-secret"),
    ("authorization", "Bearer bearer-secret"),
    ("x-own", "canaryheader"),
];

/// One exchange from its beginning to its end.
async fn exchange(program: &Program, last: &str, stream: bool) {
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut replies = gateway.post(CHAT, &HEADERS, &prompt(last, stream)).await;
    replies.destination();
    let exchange = &mut replies.exchange;
    let content_type = if stream { "text/event-stream" } else { "application/json" };
    let head = [(":status", "200"), ("content-type", content_type)];
    exchange.send(response_headers(&head, false)).await;
    match stream {
        false => exchange.send(response_body(ANSWER, true)).await,
        true => {
            for (i, event) in EVENTS.into_iter().enumerate() {
                exchange.send(response_body(event, i + 1 == EVENTS.len())).await;
            }
        }
    }
    exchange.half_close();
    exchange.rest().await;
}

/// The value of a sample on the page of metrics.
async fn metric(program: &Program, sample: &str) -> Option<f64> {
    let url = format!("http://127.0.0.1:{}/metrics", program.metrics_port);
    let page = reqwest::get(url).await.ok()?.text().await.ok()?;
    page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

async fn written(program: &Program, rows: f64) {
    eventually("rows on the disk", async || {
        metric(program, "llm_d_epp_recording_requests_total ").await.filter(|n| *n >= rows)
    })
    .await;
}

fn end(mut program: Program) {
    program.process.signal("TERM");
    program.process.signal("TERM");
    program.process.wait_at_most(Duration::from_secs(20));
}

fn recorded(dir: &Path) -> Recording {
    let mut all = read(dir, &Choice::Only).expect("a recording");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// All that is in the files of a folder, unpacked, with their names.
fn contents(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        text += &entry.file_name().into_string().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        text += &String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_has_sizes_and_times_and_no_word_of_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), &[]);
    exchange(&program, "first canaryquestion", false).await;
    exchange(&program, "then another canaryquestion", true).await;
    exchange(&program, "first canaryquestion", false).await;
    // One that is refused, and one that is no inference at all.
    let gateway = Gateway::connect(program.grpc_port).await;
    let refused = gateway.post(CHAT, &HEADERS, br#"{"canarybody":"no model"}"#).await;
    assert_eq!(refused.error().0, 400);
    // One whose client goes away.
    let cut = gateway.post(CHAT, &HEADERS, &prompt("canarycut", true)).await;
    drop(cut);
    written(&program, 5.0).await;
    end(program);

    let all = contents(dir.path());
    for word in WORDS {
        assert!(!all.to_lowercase().contains(word), "{word} in {all}");
    }
    let recording = recorded(dir.path());
    let [first, second, third, refused, cut] = &recording.rows[..] else { panic!("{all}") };
    assert_eq!((first.prompt.len(), &third.prompt), (1, &first.prompt), "{all}");
    // The system prompt of 1,230 bytes fills four blocks of 256.
    assert_eq!(second.prompt[0].0, first.prompt[0].0);
    assert!(second.prompt[0].1 >= 4 && second.prompt[0].1 < first.prompt[0].1, "{all}");
    for (row, stream, tokens) in
        [(first, false, (300, Some(48), 7)), (second, true, (310, None, 2))]
    {
        let told = (row.prompt_tokens.unwrap(), row.cached_tokens, row.output_tokens.unwrap());
        assert_eq!((row.stream, row.status, told), (stream, Some(200), tokens));
        assert_eq!((row.model, row.tenant, row.objective), (Some(1), Some(1), Some(1)));
        assert_eq!(row.pool_size, Some(2));
        assert!(row.ttft_us.unwrap() <= row.duration_us && row.is_answered());
        assert!((310..400).contains(&row.estimated_tokens) && row.bytes > 1230, "{row:?}");
    }
    assert_eq!((first.predicted_tokens, second.chunks), (Some(0), Some(3)));
    // It went where it had gone before.
    assert_eq!(third.endpoint, first.endpoint);
    assert!(third.predicted_tokens.unwrap() >= 256, "{third:?}");
    assert_eq!((refused.end.as_ref(), refused.refused.as_deref()), ("refused", Some("BadRequest")));
    assert_eq!((cut.end.as_ref(), cut.endpoint.is_some()), ("cut-before-response", true));
    only_numbers(&recording.rows);
}

/// Whatever a row holds beside numbers is a word of ours.
fn only_numbers(rows: &[Row]) {
    fn texts(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => drop(found.insert(text.clone())),
            Value::Array(all) => all.iter().for_each(|one| texts(one, found)),
            Value::Object(all) => all.values().for_each(|one| texts(one, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    rows.iter().for_each(|row| texts(&serde_json::to_value(row).unwrap(), &mut found));
    let ours = ["BadRequest", "complete", "cut-before-response", "refused"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_when_the_program_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), &[]);
    exchange(&program, "a", false).await;
    written(&program, 1.0).await;
    exchange(&program, "b", false).await;
    written(&program, 2.0).await;
    drop(program);
    let first = recorded(dir.path());
    assert_eq!(first.rows.len(), 2);
    assert_eq!(first.notes, Vec::<String>::new());

    // Another start is another recording, beside the first.
    let program = start(dir.path(), &[]);
    exchange(&program, "c", false).await;
    written(&program, 1.0).await;
    end(program);
    let error = read(dir.path(), &Choice::Only).unwrap_err().to_string();
    assert!(error.contains("holds 2 recordings"), "{error}");
    let id = first.header.recording.clone();
    assert_eq!(read(dir.path(), &Choice::One(id)).unwrap(), [first]);
    assert_eq!(read(dir.path(), &Choice::All).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_vanishes_hurts_nobody_and_recording_goes_on() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("traffic");
    let program = start(&dir, &[]);
    exchange(&program, "a", false).await;
    written(&program, 1.0).await;
    std::fs::remove_dir_all(&dir).unwrap();
    exchange(&program, "b", false).await;
    eventually("rows that were lost", async || {
        metric(&program, "llm_d_epp_recording_dropped_total{reason=\"disk\"} ")
            .await
            .filter(|n| *n >= 1.0)
    })
    .await;
    let sent = AtomicUsize::new(0);
    eventually("rows that are written again", async || {
        exchange(&program, "c", false).await;
        sent.fetch_add(1, Ordering::Relaxed);
        metric(&program, "llm_d_epp_recording_requests_total ").await.filter(|n| *n >= 2.0)
    })
    .await;
    program
        .process
        .wait_for("that it goes on", |line| line.contains("Recording goes on").then_some(()));
    let output = program.process.output();
    assert_eq!(output.matches("Recording fails").count(), 1, "{output}");
    end(program);
    let (rows, sent) = (recorded(&dir).rows.len(), sent.into_inner());
    assert!(rows >= 1 && rows <= sent, "{rows} of {sent}");
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
        command.args(["--endpoints=127.0.0.1:1", "--grpc-port=0", "--grpc-health-port=0"]);
        command.args(["--metrics-port=0"]).args(arguments);
        let (code, text) = Process::start("epp", &mut command).wait_at_most(support::PATIENCE);
        assert_eq!(code, Some(2), "{text}");
        text
    };
    let text = refused(&[&format!("--record={}", file.path().display())]);
    assert!(text.contains("epp: cannot write to /") && text.contains(": --record"), "{text}");
    let text = refused(&["--record=/proc/traffic"]);
    assert!(text.contains("epp: cannot write to /proc/traffic: "), "{text}");
    let text = refused(&["--record=x", "--record-max-file-bytes=1Ki", "--record-max-bytes=1Ki"]);
    assert!(text.contains("--record-max-file-bytes: must be at least 64Ki"), "{text}");
    assert!(text.contains("--record-max-bytes: must be at least twice"), "{text}");
}

#[cfg(feature = "bench")]
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_replayed_beside_what_it_measured() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), &[]);
    for i in 0..6 {
        exchange(&program, &format!("question {}", i % 3), i % 2 == 0).await;
    }
    written(&program, 6.0).await;
    end(program);

    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name).display().to_string();
    std::fs::write(path("mine.yaml"), TUTORIAL).unwrap();
    let replay = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp-bench"));
        command.arg("replay").arg(dir.path()).args(["--no-baselines", "--quiet"]).args(more);
        command.output().expect("epp-bench starts")
    };
    let (mine, json, html) = (path("mine.yaml"), path("r.json"), path("r.html"));
    let arguments = ["--config", mine.as_str(), "--config", "other=config/default.yaml"];
    let output = replay(&[&arguments[..], &["--json", &json, "--html", &html]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("What was measured when it was recorded, under mine,"), "{text}");
    assert!(text.contains("simulated: mine") && text.contains("simulated: other"), "{text}");
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let results = &results["results"];
    assert_eq!((&results["requests"], &results["workers"]), (&6.into(), &2.into()));
    let recorded = &results["recorded"];
    assert_eq!((&recorded["same_config"], &recorded["finished"]), (&"mine".into(), &6.into()));
    assert_eq!(recorded["ttft"]["count"], 3);
    // 48 of the 300 tokens of each that told.
    assert_eq!(recorded["hit_rate"], 0.16);
    for simulated in results["simulations"].as_array().unwrap() {
        assert_eq!(simulated["finished"], 6, "{simulated}");
        assert!(simulated["hit_rate"].as_f64().unwrap() > 0.3, "{simulated}");
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<svg") && page.contains("measured"));

    let output = replay(&["--from", "1h"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("between --from and --until"), "{text}");
    let output = replay(&["--recording", "nobody"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("there is no recording nobody"), "{text}");
}
