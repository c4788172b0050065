//! What this program was built from, for people.

use std::sync::LazyLock;

use crate::telemetry::BuildInfo;

/// For `epp --version`: `v0.1.0 (commit 1a2b3c4d5e6f, 2026-11-24)`, without what the build was not
/// told and could not find out (build/version.rs).
pub(super) fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let version = BuildInfo::of_this_build().build_ref;
        text(version, option_env!("EPP_COMMIT"), option_env!("EPP_BUILD_DATE"))
    });
    &TEXT
}

fn text(version: &str, commit: Option<&str>, date: Option<&str>) -> String {
    let commit = commit.filter(|c| !c.is_empty()).map(|c| format!("commit {c}"));
    let date = date.filter(|d| !d.is_empty()).map(str::to_owned);
    let from: Vec<String> = commit.into_iter().chain(date).collect();
    match from.is_empty() {
        true => version.to_owned(),
        false => format!("{version} ({})", from.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        for (commit, date, expected) in [
            (Some("1a2b"), Some("2026-11-24"), "v1 (commit 1a2b, 2026-11-24)"),
            (Some("1a2b"), None, "v1 (commit 1a2b)"),
            (Some(""), Some("2026-11-24"), "v1 (2026-11-24)"),
            (None, None, "v1"),
        ] {
            assert_eq!(text("v1", commit, date), expected);
        }
    }
}
