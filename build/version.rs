//! Tells the program its commit and date where the build was not told: EPP_COMMIT and
//! EPP_BUILD_DATE win, else git is asked, for release builds alone: others would be built anew
//! after every commit.

use std::process::Command;

pub fn emit() {
    for variable in ["EPP_COMMIT", "EPP_BUILD_DATE", "EPP_BUILD_REF"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // Written at every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    for (variable, question) in [
        ("EPP_COMMIT", &["rev-parse", "--short=12", "HEAD"][..]),
        ("EPP_BUILD_DATE", &["log", "-1", "--format=%cs"]),
    ] {
        if std::env::var_os(variable).is_none()
            && let Some(answer) = git(question)
        {
            println!("cargo::rustc-env={variable}={answer}");
        }
    }
}

/// What git says; `None` where there is no git, or this is no checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
