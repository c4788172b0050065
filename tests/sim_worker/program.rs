//! The `epp-sim` program: its flags, its first words and its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use epp::sim::EngineProfile;

use super::*;

/// A running program, killed if the test ends before it does.
struct Program {
    child: Child,
    clients: Vec<Client>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the program on free ports and waits for its `workers` lines.
fn start(workers: usize, args: &[&str]) -> Program {
    let mut child = command(&["--port", "0"]).args(args).spawn().expect("a program");
    let stdout = child.stdout.take().expect("piped");
    let mut program = Program { child, clients: Vec::new() };
    for line in BufReader::new(stdout).lines().take(workers) {
        let line = line.expect("text");
        let address = line.strip_prefix("listening on http://").expect("the address").to_owned();
        program.clients.push(Client { address });
    }
    assert_eq!(program.clients.len(), workers);
    program
}

#[tokio::test]
async fn several_workers_run_in_one_process_each_with_its_own_cache() {
    let program = start(3, &["--workers", "3", "--instant", "--name", "gpu", "--model", "m"]);
    for (index, client) in program.clients.iter().enumerate() {
        for cached in [0, 96] {
            let body = json!({"model": "m", "prompt": "p".repeat(400)}).to_string();
            let reply = client.post("/v1/completions", &body).await;
            assert_eq!(reply.worker, format!("gpu-{index}"));
            let details = &reply.json()["usage"]["prompt_tokens_details"];
            assert_eq!(details["cached_tokens"], cached, "worker {index}");
        }
    }
}

#[tokio::test]
async fn flags_reach_the_worker() {
    let program = start(
        1,
        &[
            "--lora",
            "a,b",
            "--block-size",
            "32",
            "--num-blocks",
            "100",
            "--max-loras",
            "2",
            "--response-text",
            "yes",
            "--speed",
            "1000",
        ],
    );
    let client = &program.clients[0];
    let reply = client.get("/metrics").await;
    assert_eq!(reply.worker, client.address);
    assert!(reply.text.contains("block_size=\"32\""), "{}", reply.text);
    assert!(reply.text.contains("num_gpu_blocks=\"100\""), "{}", reply.text);
    assert!(reply.text.contains("max_lora=\"2\""), "{}", reply.text);
    let models = client.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "sim");
    assert_eq!(models["data"][0]["max_model_len"], 3200);
    assert_eq!(models["data"][2]["id"], "b");
    let body = client.post("/v1/completions", r#"{"prompt":"hi"}"#).await.json();
    assert_eq!(body["choices"][0]["text"], "yes");
}

#[tokio::test]
async fn sigterm_lets_answers_finish() {
    let mut program = start(1, &["--speed", &WALK.to_string()]);
    let body = json!({
        "prompt": "hi", "max_tokens": 20, "ignore_eos": true, "stream": true,
    });
    let mut answer = program.clients[0].open("/v1/completions", &body.to_string()).await;
    answer.next().await.expect("a token");
    let pid = program.child.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
    assert!(kill.success());
    let rest = answer.rest().await;
    assert_eq!(rest.len(), 19 + 1);
    assert_eq!(rest.last().map(String::as_str), Some("[DONE]"));
    drop(answer);
    let status = program.child.wait().expect("an end");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn mistakes_are_errors_at_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").port().to_string();
    for (args, says) in [
        (["--speed", "0"], "speed must be a number above 0"),
        (["--max-num-seqs", "9000"], "max_num_batched_tokens (8192)"),
        (["--num-blocks", "0"], "num_blocks must be at least 1"),
        (["--block-size", "0"], "block_size must be at least 1"),
        (["--workers", "0"], "--workers"),
        (["--profile", "a100"], "h200-qwen7b, h100-qwen3b"),
        (["--fault", "{\"slow\":0}"], "slow must be a number above 0"),
        (["--fault", "broken"], "--fault"),
        (["--role", "encode"], "prefill, decode, both"),
        (["--kv-transfer-gbps", "0"], "time of a KV transfer per token"),
        (["--name", "a\nb"], "cannot stand in a header"),
        (["--port", taken.as_str()], "cannot listen on 127.0.0.1"),
    ] {
        let args = [&["--port", "0"], args.as_slice()].concat();
        let args = if args[2] == "--port" { &args[2..] } else { &args[..] };
        let output = command(args).output().expect("a program");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr.contains(says), "{args:?} says {stderr}");
    }
}

#[tokio::test]
async fn a_profile_comes_from_a_file() {
    let mut profile = EngineProfile::builtin("h100-qwen3b").expect("built in");
    profile.num_blocks = 4321;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.json");
    std::fs::write(&file, serde_json::to_string(&profile).expect("JSON")).expect("written");
    let program =
        start(1, &["--profile", file.to_str().expect("a path"), "--no-enable-prefix-caching"]);
    let page = program.clients[0].get("/metrics").await.text;
    assert!(page.contains("num_gpu_blocks=\"4321\""), "{page}");
    assert!(page.contains("enable_prefix_caching=\"False\""), "{page}");
}

#[tokio::test]
async fn a_worker_told_to_die_ends_without_a_word() {
    let mut program = start(1, &["--fault", r#"{"slow":1000}"#, "--role", "decode"]);
    let client = program.clients[0].clone();
    let asking = tokio::spawn({
        let client = client.clone();
        async move {
            let body = r#"{"prompt":"hi","stream":true}"#;
            let socket = tokio::net::TcpStream::connect(&client.address).await.expect("a worker");
            let request = format!(
                "POST /v1/completions HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            read_to_end(socket, &request).await
        }
    });
    client.wait_for_load(1.0, 0.0).await;
    let socket = tokio::net::TcpStream::connect(&client.address).await.expect("a worker");
    let body = r#"{"die":true}"#;
    let request = format!(
        "POST /sim/fault HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(read_to_end(socket, &request).await, "", "not even an answer to that");
    let stream = asking.await.expect("no panic");
    assert!(!stream.contains("[DONE]"), "{stream}");
    assert_eq!(program.child.wait().expect("an end").code(), Some(1));
}

/// Sends bytes and returns all that comes until the connection ends, however it does.
async fn read_to_end(mut socket: tokio::net::TcpStream, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut received = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = socket.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..n]);
        }
    };
    tokio::time::timeout(client::PATIENCE, reading).await.expect("an end in time");
    String::from_utf8_lossy(&received).into_owned()
}
