//! Files that are wrong, gone or swapped, and who has them looked at.

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::harness::{Rig, body, by_prefix, endpoints};
use crate::support::eventually;

const SUCCESS: &str = "llm_d_epp_config_last_reload_successful";
const REFUSED: &str = "llm_d_epp_config_reloads_total{result=\"refused\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_says_where_it_is_broken() {
    let rig = Rig::start(&by_prefix(2, ""), &[]).await;
    let hash = rig.json("/debug/config").await["hash"].clone();
    let plugins = rig.json("/debug/config").await["pluginsAtWork"].clone();
    let broken = by_prefix(2, "- {type: queue-scorer, nme: x}\n- type: prefx-cache-scorer");
    rig.edit(&broken);
    let line = rig.log("The configuration is refused", 1).await;
    assert_eq!(line["level"], "error");
    let file = rig.file().display().to_string();
    let mistakes = line["mistakes"].as_str().unwrap().replace(&file, "FILE");
    for part in [
        "FILE:6:",
        "plugins[2].nme",
        "did you mean 'name'?",
        "FILE:7:",
        "did you mean 'prefix-cache-scorer'?",
    ] {
        assert!(mistakes.contains(part), "{part}: {mistakes}");
    }
    assert_eq!((rig.metric(SUCCESS).await, rig.metric(REFUSED).await), (Some(0.0), Some(1.0)));
    let finding = eventually("a finding", || async { rig.findings().await.pop() }).await;
    assert!(finding.contains("is refused") && finding.contains("did you mean"), "{finding}");
    let page = rig.json("/debug/config").await;
    let shown = page["refused"]["mistakes"].as_array().map(Vec::len);
    assert_eq!(shown, Some(mistakes.lines().count()), "{page}");
    assert_eq!((&page["hash"], &page["pluginsAtWork"]), (&hash, &plugins));

    drop(rig.begin("on-the-old", &body("still served")).await);
    assert_eq!(rig.weight("on-the-old").await, 2.0);
    rig.reload(&by_prefix(3, "")).await;
    assert_eq!(rig.metric(SUCCESS).await, Some(1.0));
    assert_eq!(rig.json("/debug/config").await["refused"], json!(null));
    drop(rig.begin("on-the-new", &body("still served")).await);
    assert_eq!(rig.weight("on-the-new").await, 3.0);
    assert_eq!(rig.logged("The configuration is refused").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_goes_and_comes_back_is_missed_and_welcome() {
    let rig = Rig::start(&by_prefix(2, ""), &[]).await;
    std::fs::remove_file(rig.file()).unwrap();
    let line = rig.log("The configuration is refused", 1).await;
    assert!(line["mistakes"].as_str().unwrap().contains("cannot be read"), "{line}");
    assert_eq!(rig.metric(SUCCESS).await, Some(0.0));
    rig.edit(&by_prefix(2, ""));
    rig.log("The configuration is again the one in force", 1).await;
    assert_eq!(rig.metric(SUCCESS).await, Some(1.0));
    rig.reload(&by_prefix(5, "")).await;
    drop(rig.begin("r", &body("served")).await);
    assert_eq!(rig.weight("r").await, 5.0);
}

/// As the kubelet does: the volume's files are links through `..data`, which is renamed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_is_followed_through_its_links() {
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    let publish = |version: &str, text: &str| {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("config.yaml"), text).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..v1", &by_prefix(2, ""));
    symlink("..data/config.yaml", at("config.yaml")).unwrap();
    // The file that the program is started with leads there.
    let file = at("config.yaml").display().to_string();
    let rig = Rig::start("", &["--config-file", &file]).await;
    for (n, version) in (3..).zip(["..v2", "..v3"]) {
        publish(version, &by_prefix(n, ""));
        rig.log("Configuration reloaded", n as usize - 2).await;
        std::fs::remove_dir_all(at(&format!("..v{}", n - 2))).unwrap();
        let id = format!("r{n}");
        drop(rig.begin(&id, &body("served")).await);
        assert_eq!(rig.weight(&id).await, f64::from(n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_watch_it_takes_a_signal() {
    let rig = Rig::start(&by_prefix(2, ""), &["--config-reload=signal"]).await;
    rig.program.process.signal("HUP");
    rig.log("The configuration has not changed", 1).await;
    rig.edit(&by_prefix(4, ""));
    rig.program.process.signal("HUP");
    rig.log("Configuration reloaded", 1).await;
    // Asked again, a file that is still wrong is reported again.
    rig.edit("plugins: 7");
    for n in 1..3 {
        rig.program.process.signal("HUP");
        rig.log("The configuration is refused", n).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_says_so() {
    let rig = Rig::start(&by_prefix(2, ""), &["--config-reload=off"]).await;
    rig.edit(&by_prefix(4, ""));
    rig.program.process.signal("HUP");
    let line = rig.log("SIGHUP: no configuration is reloaded", 1).await;
    assert_eq!(line["reason"], "--config-reload=off");
    drop(rig.begin("r", &body("served")).await);
    assert_eq!(rig.weight("r").await, 2.0);
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let list = endpoints()[0].to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_epp"))
        .args(["--endpoints", &list, "--config-reload=sometimes"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--config-reload: 'sometimes'"), "{text}");
}
