//! `session-id-producer`: which session a request belongs to, by a header or a cookie.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::headers::Headers;
use crate::scheduling::{Cycle, DataKey, Producer, RequestData, RequestDatum};

pub(super) const TYPE: PluginType =
    PluginType { name: "session-id-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "which session a request belongs to, by a header or a cookie, one of which is required",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("headerName", "the header").required().example("x-session-id"),
        Parameter::text("cookieName", "the cookie").beside("{headerName: null}").example("session"),
    ]),
};

/// The session that a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionId(pub String);

impl RequestDatum for SessionId {
    const PRODUCER: &'static str = "session id producer";
    /// There is one, but it has to be told where to look.
    const DEFAULT_PRODUCER: Option<&'static str> = None;
}

#[derive(Debug)]
struct SessionIdProducer {
    key: DataKey<SessionId>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In lower case.
    Header(String),
    Cookie(String),
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let header = p.string("headerName").filter(|name| !name.is_empty());
    let cookie = p.string("cookieName").filter(|name| !name.is_empty());
    let place = match (header, cookie) {
        (Some(header), None) => Place::Header(header.to_ascii_lowercase()),
        (None, Some(cookie)) => Place::Cookie(cookie.to_owned()),
        _ => {
            p.error("headerName", "exactly one of 'headerName' and 'cookieName' is required");
            Place::Header(String::new())
        }
    };
    p.finish();
    let key = build.dependencies.provide(build.name);
    Capabilities::default().with::<dyn Producer>(Arc::new(SessionIdProducer { key, place }))
}

impl Producer for SessionIdProducer {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        let headers = &cycle.request.headers;
        let id = match &self.place {
            Place::Header(name) => headers.get(name),
            Place::Cookie(name) => cookie(headers, name),
        };
        if let Some(id) = id.map(str::trim).filter(|id| !id.is_empty()) {
            data.set(self.key, SessionId(id.to_owned()));
        }
    }
}

/// The value of a cookie (RFC 6265, section 4.2.1).
fn cookie<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let pairs = headers.get("cookie")?.split(';');
    let mut values = pairs.filter_map(|pair| pair.split_once('='));
    values.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().trim_matches('"'))
}
