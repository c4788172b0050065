//! Files that tests read: those of the repository, and material that is not ours to ship.

#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Beside the checkout or above a worktree; `None` where it is absent, which is said.
pub fn shared(path: &str) -> Option<PathBuf> {
    let places = ["../shared", "../../shared"].map(|place| root().join(place).join(path));
    let found = places.into_iter().find(|place| place.exists());
    if found.is_none() {
        eprintln!("skipped: ../shared/{path} is not here");
    }
    found
}

/// All files in a folder and in those inside it.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
