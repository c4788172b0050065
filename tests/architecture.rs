//! The rooms of `src/` and the arrows between them: no circles, a core that needs no server, and
//! the table in `docs/architecture.md` as the code has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/architecture.md";
const START: &str =
    "<!-- rooms: `UPDATE_DOCS=1 cargo test --test architecture` writes this table -->\n";
const END: &str = "<!-- end of rooms -->";

/// What simulations and tests use as it is: no runtime, no protobuf, no files, no Kubernetes.
const CORE: [&str; 21] = [
    "api",
    "catalogue",
    "clock",
    "config",
    "endpoints",
    "error",
    "exchange",
    "flow_control",
    "headers",
    "health",
    "kv_events",
    "kv_index",
    "latency",
    "loader",
    "migrate",
    "objectives",
    "plugins",
    "prefix",
    "quota",
    "scheduling",
    "tokens",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that each room of `src/` names, tests left out.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files {
        let inside = path.strip_prefix(&src).expect("below src");
        let first = inside.components().next().expect("a component");
        let room = first.as_os_str().to_str().expect("UTF-8").trim_end_matches(".rs").to_owned();
        let is_test =
            inside.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs");
        if is_test || ["lib", "main", "bin"].contains(&room.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let uses = arrows.entry(room.clone()).or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for after in line.split("crate::").skip(1) {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = &after[..after.find(|c| !is_name(c)).unwrap_or(after.len())];
                if name != room && !name.is_empty() {
                    uses.insert(name.to_owned());
                }
            }
        }
    }
    let rooms: BTreeSet<String> = arrows.keys().cloned().collect();
    arrows.values_mut().for_each(|uses| uses.retain(|name| rooms.contains(name)));
    arrows
}

/// Takes away, again and again, what uses nothing that is left; what stays is in a circle.
#[test]
fn no_room_comes_back_to_itself() {
    let mut left = arrows();
    assert!(left.len() > 20 && left["exchange"].contains("scheduling"), "{left:?}");
    loop {
        let free: Vec<_> =
            left.iter().filter(|(_, uses)| uses.is_empty()).map(|(room, _)| room.clone()).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|room, _| !free.contains(room));
        left.values_mut().for_each(|uses| uses.retain(|used| !free.contains(used)));
    }
    assert!(left.is_empty(), "circles among {left:#?}");
}

#[test]
fn the_core_uses_the_core_alone() {
    let arrows = arrows();
    for room in CORE {
        let outside: Vec<_> = arrows[room]
            .iter()
            .filter(|used| !CORE.contains(&used.as_str()) && *used != "scrape_config")
            .collect();
        assert!(outside.is_empty(), "{room} uses {outside:?}");
    }
}

/// The first sentence of a room's own description.
fn purpose(room: &str) -> String {
    let src = root().join("src");
    let paths = [src.join(room).join("mod.rs"), src.join(format!("{room}.rs"))];
    let text = paths.iter().find_map(|path| fs::read_to_string(path).ok()).expect("a room");
    let docs: Vec<_> =
        text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let docs = docs.join(" ");
    docs.split_once(". ").map_or(docs.trim_end_matches('.'), |(first, _)| first).to_owned()
}

#[test]
fn the_page_has_the_rooms_as_they_are() {
    let mut table = String::from("| room | what it is | uses |\n|---|---|---|\n");
    for (room, uses) in arrows() {
        let uses: Vec<_> = uses.iter().map(String::as_str).collect();
        table.push_str(&format!("| `{room}` | {} | {} |\n", purpose(&room), uses.join(", ")));
    }
    let page = fs::read_to_string(root().join(PAGE)).expect("the page");
    let (before, rest) = page.split_once(START).expect("the start of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let wanted = format!("{before}{START}{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(PAGE), &wanted).expect("written");
    } else {
        assert!(page == wanted, "{PAGE}: run UPDATE_DOCS=1 cargo test --test architecture");
    }
}
