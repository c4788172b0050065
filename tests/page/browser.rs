//! A headless Chromium, through its driver, by the few calls of WebDriver that are needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::needs::{self, Need};
use crate::support::process::Process;

/// The driver that `make tools` installed; without it the test does nothing, or fails where
/// nothing may be skipped.
pub fn driver() -> Option<PathBuf> {
    if needs::skipped(Need::Browser) {
        return None;
    }
    let named = std::env::var_os("CHROMEDRIVER").map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|folder| folder.join("chromedriver"));
    let driver = named.into_iter().chain(found).find(|path| path.is_file());
    if driver.is_none() {
        let why = "no chromedriver in PATH or CHROMEDRIVER; `tools/chromium.sh` installs it";
        needs::missing(Need::Browser, why);
    }
    driver
}

#[derive(Clone, Copy)]
pub enum Device {
    Desktop,
    /// 390 points wide.
    Phone,
}

pub const ENTER: char = '\u{e007}';
pub const ESCAPE: char = '\u{e00c}';

pub struct Browser {
    http: reqwest::Client,
    /// Address of the session.
    session: String,
    _driver: Process,
    _profile: tempfile::TempDir,
}

const ARGUMENTS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1360,1400",
];

impl Browser {
    pub async fn start(driver: &Path, device: Device) -> Self {
        let process = Process::start("chromedriver", Command::new(driver).arg("--port=0"));
        let port = process.wait_for("the driver's port", |line| {
            let port = line.split_once("started successfully on port ")?.1;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = ARGUMENTS.map(String::from).into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let mut options = json!({ "args": arguments });
        if let Device::Phone = device {
            let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 2.0 });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let http = reqwest::Client::new();
        let driver = format!("http://127.0.0.1:{port}/session");
        let answer = http.post(&driver).json(&wanted).send().await.expect("the driver answers");
        let answer: Value = answer.json().await.expect("JSON");
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}"));
        Self { http, session: format!("{driver}/{id}"), _driver: process, _profile: profile }
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Value {
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert!(answer["value"].get("error").is_none(), "{answer}");
        answer["value"].clone()
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        self.call(self.http.post(format!("{}/{command}", self.session)).json(&body)).await
    }

    pub async fn close(self) {
        self.call(self.http.delete(&self.session)).await;
    }

    pub async fn open(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    pub async fn source(&self) -> String {
        let source = self.call(self.http.get(format!("{}/source", self.session))).await;
        source.as_str().expect("a text").to_owned()
    }

    /// A picture of the window, PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let text = self.call(self.http.get(format!("{}/screenshot", self.session))).await;
        BASE64_STANDARD.decode(text.as_str().expect("a text")).expect("a picture")
    }

    pub async fn script(&self, script: &str) -> Value {
        self.script_with(script, json!([])).await
    }

    pub async fn script_with(&self, script: &str, arguments: Value) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": arguments })).await
    }

    pub async fn text(&self, id: &str) -> String {
        let text = self.script(&format!("return document.getElementById('{id}').innerText")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    pub async fn count(&self, selector: &str) -> u64 {
        let count = format!("return document.querySelectorAll('{selector}').length");
        self.script(&count).await.as_u64().unwrap()
    }

    /// Clicks, or taps, where the first such element is.
    pub async fn click(&self, selector: &str) {
        let script = "const box = document.querySelector(arguments[0]);
            box.scrollIntoView({ block: 'center' });
            const { x, y, width, height } = box.getBoundingClientRect();
            return [Math.round(x + Math.min(width, 300) / 2), Math.round(y + height / 2)]";
        let at = self.script_with(script, json!([selector])).await;
        let steps = json!([
            { "type": "pointerMove", "duration": 0, "x": at[0], "y": at[1] },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]);
        let pointer = json!({ "type": "pointer", "id": "mouse", "actions": steps });
        self.post("actions", json!({ "actions": [pointer] })).await;
    }

    /// Presses keys one after the other, wherever the focus is.
    pub async fn keys(&self, keys: &str) {
        let press = |key: char| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let steps: Vec<Value> = keys.chars().flat_map(press).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": steps });
        self.post("actions", json!({ "actions": [keyboard] })).await;
    }

    /// Waits until a script returns true.
    pub async fn until(&self, what: &str, script: &str) {
        eventually(what, || async { (self.script(script).await == true).then_some(()) }).await;
    }

    /// Waits until the page has asked for its data so many times.
    pub async fn turns(&self, turns: u64) {
        let script = format!("return Number(document.body.dataset.turn || 0) >= {turns}");
        self.until("the page to be kept up to date", &script).await;
    }

    /// Nothing of the page lies beside the window.
    pub async fn fits(&self) {
        let script = "return [document.documentElement.scrollWidth, window.innerWidth]";
        let widths = self.script(script).await;
        assert!(widths[0].as_u64() <= widths[1].as_u64(), "{widths}");
    }
}
