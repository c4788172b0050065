//! The page for people, at `/` of the metrics port: one file that asks this port for its data and
//! nobody else for anything.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Response};

const SCRIPTS: [&str; 4] = [
    include_str!("page/common.js"),
    include_str!("page/endpoints.js"),
    include_str!("page/decisions.js"),
    include_str!("page/page.js"),
];

static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page/page.html")
        .replace("/*CSS*/", include_str!("page/page.css"))
        .replace("/*JS*/", &SCRIPTS.concat())
});

/// Nothing from anywhere but this port, and nobody may put the page into another.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(super) async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, PAGE.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_everything_it_needs() {
        assert!(!PAGE.contains("/*CSS*/") && !PAGE.contains("/*JS*/"));
        for outside in ["src=", "@import", "url(", "innerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        let addresses = PAGE.matches("http").count();
        assert_eq!(addresses, PAGE.matches("http://www.w3.org/2000/svg").count());
    }
}
