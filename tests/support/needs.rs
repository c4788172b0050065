//! What some tests cannot do without, and what happens where it is missing.
//!
//! A test that wants Envoy, Redis, a rate limit service or an API server is skipped, with a line that says so, where there is
//! none: `cargo test` works on any machine. Where everything has to be run (`CI=true`, which
//! `make test` sets too) a test that would be skipped fails instead, unless the need is named in
//! `SKIP`: `SKIP=envoy,kubernetes make test` does without those two.

use std::env;

/// A part of the tests that can be done without, as `SKIP` names it.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A real Envoy.
    Envoy,
    /// An API server with etcd, helm, kubectl and our neighbours' CRDs.
    Kubernetes,
    /// A Redis server.
    Redis,
    /// `envoyproxy/ratelimit`.
    RateLimit,
    /// Chromium with its driver.
    Browser,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Kubernetes => "kubernetes",
            Self::Redis => "redis",
            Self::RateLimit => "ratelimit",
            Self::Browser => "browser",
        }
    }
}

/// Whether the environment says to do without `need`; then a line says what is skipped.
pub fn skipped(need: Need) -> bool {
    let skipped = names(&env::var("SKIP").unwrap_or_default(), need);
    if skipped {
        eprintln!("skipped: SKIP names {}", need.name());
    }
    skipped
}

/// Says that a test is skipped for want of `need`, and how to get it.
///
/// # Panics
/// Where nothing may be skipped.
pub fn missing(need: Need, why: &str) {
    assert!(
        !must_run(env::var("CI").ok().as_deref()),
        "{why} (or SKIP={} to do without)",
        need.name()
    );
    eprintln!("skipped: {why}");
}

/// Whether a list such as `envoy,kubernetes` has the need in it.
pub fn names(skip: &str, need: Need) -> bool {
    skip.split(',').any(|name| name.trim() == need.name())
}

/// Whether this value of `CI` means that nothing may be skipped.
pub fn must_run(ci: Option<&str>) -> bool {
    matches!(ci, Some("true" | "1"))
}
