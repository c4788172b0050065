//! What stands in files of this repository beside the code, held against the code: pages, the
//! image's build context, the unit, versions.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use epp::catalogue;
use epp::cli;
use epp::endpoints::PoolIds;
use epp::loader::{LoadOptions, load};
use epp::plugins::{self, Part};
use support::needs::{Need, must_run, names};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The tables of plugin types, and each of them once.
#[test]
fn the_page_of_plugin_types_is_what_they_declare() {
    const PAGE: &str = "docs/plugins.md";
    const START: &str = "<!-- plugin types: ";
    const END: &str = "<!-- end of plugin types -->";
    let page = read(PAGE);
    let mut wanted = String::new();
    let mut rest = page.as_str();
    while let Some((before, after)) = rest.split_once(START) {
        let (names, after) = after.split_once(" -->\n").expect("the end of the marker");
        let (_, after) = after.split_once(END).expect("the end of the tables");
        let is_older = names.starts_with("older ");
        let parts = names.split(", ").map(|name| {
            let name = name.trim_start_matches("older ");
            let part = Part::ALL.into_iter().find(|part| part.name() == name);
            part.unwrap_or_else(|| panic!("no part is called {name}"))
        });
        let tables = catalogue::tables(&parts.collect::<Vec<_>>(), is_older);
        wanted.push_str(&format!("{before}{START}{names} -->\n{tables}{END}"));
        rest = after;
    }
    wanted.push_str(rest);
    for name in plugins::type_names() {
        let rows = wanted.lines().filter(|line| line.starts_with(&format!("| `{name}` ")));
        assert!(rows.count() >= 1, "{PAGE} has no table for {name}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(PAGE), &wanted).expect("written");
    } else {
        assert!(page == wanted, "{PAGE}: run UPDATE_DOCS=1 cargo test --test repository");
    }
}

/// Every plugin type that some version of the reference has.
fn types_of_the_reference() -> BTreeSet<String> {
    let text = read("src/loader/reference_types.rs");
    let entry = |line: &str| Some(line.trim().strip_prefix('"')?.strip_suffix("\",")?.to_owned());
    text.lines().filter_map(entry).collect()
}

/// Whether a configuration that names the type is refused for the type itself.
fn unavailable(plugin_type: &str) -> bool {
    let text = format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: {plugin_type}\n"
    );
    let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
    let (_, found) = load("page", Some(&text), &options, &PoolIds::default());
    let found = found.to_string();
    assert!(!found.contains("is unknown"), "{plugin_type}: {found}");
    found.contains("not available in this version")
}

#[test]
fn the_page_on_moving_names_every_plugin_type_that_is_not_there() {
    const PAGE: &str = "docs/moving-from-llm-d.md";
    const START: &str = "<!-- unavailable plugin types: `UPDATE_DOCS=1 cargo test --test repository` writes this list -->\n";
    const END: &str = "<!-- end of unavailable plugin types -->";
    let types = types_of_the_reference();
    assert!(types.contains("queue-scorer") && types.len() > 90, "{types:?}");
    let missing: Vec<_> = types.iter().filter(|name| unavailable(name)).collect();
    let list: String = missing.iter().map(|name| format!("- `{name}`\n")).collect();
    let list = if list.is_empty() { "None: all of them are there.\n".to_owned() } else { list };
    let page = read(PAGE);
    let (before, rest) = page.split_once(START).expect("the start of the list");
    let (_, after) = rest.split_once(END).expect("the end of the list");
    let wanted = format!("{before}{START}{list}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(PAGE), &wanted).expect("written");
    } else {
        assert!(page == wanted, "{PAGE}: run UPDATE_DOCS=1 cargo test --test repository");
    }
}

/// Paths that the Dockerfile copies into the build.
fn copied() -> Vec<String> {
    let file = read("deploy/Dockerfile");
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    let from_here = copies.filter(|rest| !rest.starts_with("--from"));
    let sources = from_here.flat_map(|rest| {
        let mut words: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
        words.pop();
        words
    });
    sources.collect()
}

/// The image is built from these files alone, where there may be no container engine to try it.
#[test]
fn the_image_is_built_from_what_it_copies() {
    let copied = copied();
    let context = read("deploy/Dockerfile.dockerignore");
    for path in &copied {
        assert!(context.lines().any(|l| l == format!("!{path}")), "the context lacks {path}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    for path in &copied {
        let status =
            Command::new("cp").arg("-r").arg(root().join(path)).arg(folder.path()).status();
        assert!(status.is_ok_and(|s| s.success()), "{path}");
    }
    if root().join("build.rs").exists() {
        assert!(copied.contains(&"build.rs".to_owned()), "build.rs is not copied");
    }
    for file in sources(&folder.path().join("src")) {
        let text = fs::read_to_string(&file).expect("readable");
        for included in included(&text) {
            let found = file.parent().expect("a folder").join(&included).exists();
            let left_out = ["bench", "sim", "bin"].iter().any(|part| {
                file.strip_prefix(folder.path().join("src")).is_ok_and(|f| f.starts_with(part))
            });
            let in_tests = text
                .find("#[cfg(test)]")
                .is_some_and(|at| at < text.find(&included).expect("just found"))
                || file.components().any(|c| c.as_os_str() == "tests")
                || file.ends_with("tests.rs");
            assert!(found || left_out || in_tests, "{} includes {included}", file.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// Files that a source includes by `include_str!` or `include_bytes!`.
fn included(text: &str) -> Vec<String> {
    let starts = ["include_str!(\"", "include_bytes!(\""];
    let after = starts.iter().flat_map(|start| text.split(start).skip(1));
    after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

#[test]
fn the_unit_starts_epp_with_flags_it_has() {
    let unit = read("deploy/systemd/epp.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("ExecStart");
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/epp"));
    let arguments: Vec<_> = words.map(str::to_owned).collect();
    let parsed = cli::parse(&arguments, |_| None).expect("accepted");
    let cli::Command::Serve(options) = parsed else { panic!("not to serve: {start}") };
    assert_eq!(options.warnings, Vec::<String>::new());
}

#[test]
fn one_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("deploy/helm/epp/Chart.yaml").contains(&format!("appVersion: {version}\n")));
    assert!(read("CHANGELOG.md").contains(&format!("\n## {version}\n")));
    let compiler = read("rust-toolchain.toml");
    let channel = compiler.split("channel = \"").nth(1).and_then(|rest| rest.split('"').next());
    let minor = channel.and_then(|c| c.rsplit_once('.')).expect("a version").0;
    assert!(read("deploy/Dockerfile").contains(&format!("FROM rust:{minor}-alpine")));
}

#[test]
fn the_hosted_run_is_the_local_one() {
    let workflow: serde_json::Value =
        serde_yaml::from_str(&read(".github/workflows/ci.yml")).expect("YAML");
    let steps = workflow["jobs"]["test"]["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["run"] == ".ci/run"));
    let release: serde_json::Value =
        serde_yaml::from_str(&read(".github/workflows/release.yml")).expect("YAML");
    let matrix = release["jobs"]["build"]["strategy"]["matrix"]["include"].as_array();
    let targets: Vec<_> = matrix.expect("targets").iter().map(|t| t["target"].clone()).collect();
    assert_eq!(targets, ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]);
}

#[test]
fn what_is_skipped_is_named() {
    for (skip, envoy, kubernetes, redis, ratelimit) in [
        ("", false, false, false, false),
        ("envoy", true, false, false, false),
        ("kubernetes", false, true, false, false),
        (" kubernetes , envoy", true, true, false, false),
        ("redis,envoys", false, false, true, false),
        ("ratelimit", false, false, false, true),
    ] {
        assert_eq!(names(skip, Need::Envoy), envoy, "{skip:?}");
        assert_eq!(names(skip, Need::Kubernetes), kubernetes, "{skip:?}");
        assert_eq!(names(skip, Need::Redis), redis, "{skip:?}");
        assert_eq!(names(skip, Need::RateLimit), ratelimit, "{skip:?}");
    }
}

#[test]
fn everything_has_to_run_where_ci_says_so() {
    for (ci, all) in [
        (None, false),
        (Some(""), false),
        (Some("false"), false),
        (Some("true"), true),
        (Some("1"), true),
    ] {
        assert_eq!(must_run(ci), all, "{ci:?}");
    }
}
