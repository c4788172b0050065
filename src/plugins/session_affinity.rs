//! What keeps a session at one endpoint, for `session-affinity-scorer` and
//! `session-affinity-filter`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::session_bindings::SessionBindings;
use super::session_id_producer::SessionId;
use super::{Build, Capabilities, Dependencies, Kind, Parameter, parameters};
use crate::config::Fields;
use crate::error::RequestError;
use crate::scheduling::{
    Admitter, Cycle, DataKey, Directions, PickObserver, Picked, ResponseHook, RoutedRequest,
};

const DEFAULT_TOKEN_HEADER: &str = "x-session-token";
const DEFAULT_SESSION_HEADER: &str = "x-session-id";
const DEFAULT_TTL_S: i64 = 300;
/// Bytes of a header that says to which session or endpoint a request belongs; a longer one is
/// refused, as it cannot be one and would have to be remembered.
const MAX_ID: usize = 1024;

/// The parameters of both types.
pub(super) const PARAMETERS: [Parameter; 5] = [
    Parameter::one_of(
        "strategy",
        &["encoded_endpoint_header", "session_id"],
        "a header names the endpoint, or the session's place is remembered",
    )
    .default("encoded_endpoint_header"),
    Parameter::fields("encodedEndpointHeaderConfig", &TOKEN, "for encoded_endpoint_header"),
    Parameter::fields("sessionIdConfig", &SESSION, "for session_id")
        .beside("{strategy: session_id}"),
    Parameter::text("profileName", "the profile whose target is meant; else the primary one"),
    Parameter::text("headerName", "encodedEndpointHeaderConfig.header").older("llm-d v0.9"),
];

const TOKEN: [Parameter; 1] = [Parameter::text("header", "the header").default("x-session-token")];

const SESSION: [Parameter; 3] = [
    Parameter::integer("evictionTtlSeconds", "when a session that is silent is forgotten")
        .unit("s")
        .default("300")
        .at_least(1.0)
        .at_most(4_294_967_295.0),
    Parameter::of_kind("evictionSweepSeconds", Kind::Any, "how often that is looked for")
        .without_effect("a binding that has run out is let go of when it is next looked at"),
    Parameter::each("sources", &SOURCE, "where the session's name is looked for, in this order")
        .default("[{header: x-session-id}]"),
];

const SOURCE: [Parameter; 3] = [
    Parameter::text("header", "a header; either this").required().example("x-session-id"),
    Parameter::one_of("attribute", &["SessionID"], "or what a producer found")
        .beside("{header: null}"),
    Parameter::plugin("producer", "session id producer", "the producer")
        .beside("{header: null, attribute: SessionID}"),
];

/// How a request says where it belongs.
#[derive(Debug)]
pub(super) struct SessionAffinity {
    strategy: Strategy,
    /// The profile whose target is remembered; `None`: that of the primary one.
    profile: Option<String>,
}

#[derive(Debug)]
enum Strategy {
    /// A header names the endpoint; the response sets it, and the client sends it back.
    Token { header: String },
    /// The session has an id, and we remember where it went.
    Session { sources: Vec<Source>, bindings: SessionBindings },
}

#[derive(Debug)]
enum Source {
    Header(String),
    Produced(DataKey<SessionId>),
}

impl SessionAffinity {
    /// Reads the parameters of both types.
    pub(super) fn read(build: Build<'_, '_>) -> Self {
        let Build { parameters: mut p, dependencies, .. } = build;
        let session = match p.string("strategy") {
            None | Some("encoded_endpoint_header") => false,
            Some("session_id") => true,
            Some(_) => {
                p.error("strategy", "must be 'encoded_endpoint_header' or 'session_id'");
                false
            }
        };
        let mut token = p.nested("encodedEndpointHeaderConfig");
        let header = name(&mut token, "header", DEFAULT_TOKEN_HEADER);
        token.finish();
        // The name that v0.9 had for it.
        let header = p.string("headerName").map_or(header, str::to_ascii_lowercase);
        let mut config = p.nested("sessionIdConfig");
        let ttl = config.int_in("evictionTtlSeconds", 1..=i64::from(u32::MAX));
        let why = "a binding that has run out is let go of when it is next looked at";
        parameters::without_effect(&mut config, "evictionSweepSeconds", why);
        let mut sources: Vec<Source> = Vec::new();
        for mut source in config.each("sources") {
            sources.extend(read_source(&mut source, dependencies));
            source.finish();
        }
        config.finish();
        let profile = p.string("profileName").filter(|name| !name.is_empty()).map(str::to_owned);
        p.finish();
        if sources.is_empty() {
            sources.push(Source::Header(DEFAULT_SESSION_HEADER.to_owned()));
        }
        let strategy = if session {
            let ttl = Duration::from_secs(ttl.unwrap_or(DEFAULT_TTL_S).unsigned_abs());
            Strategy::Session { sources, bindings: SessionBindings::new(ttl) }
        } else {
            Strategy::Token { header }
        };
        Self { strategy, profile }
    }

    /// The parts that both types play.
    pub(super) fn capabilities(affinity: &Arc<Self>) -> Capabilities {
        let both = Capabilities::default().with::<dyn Admitter>(affinity.clone());
        match affinity.strategy {
            Strategy::Token { .. } => both.with::<dyn ResponseHook>(affinity.clone()),
            Strategy::Session { .. } => {
                both.with::<dyn PickObserver>(affinity.clone()).remembering("session table")
            }
        }
    }

    /// The one of `candidates` that the request belongs to.
    pub(super) fn pinned(&self, cycle: &Cycle<'_>, candidates: &[u32]) -> Option<u32> {
        let endpoint = |c: u32| &cycle.candidates[c as usize].endpoint;
        match &self.strategy {
            Strategy::Token { header } => {
                let token = STANDARD.decode(cycle.request.headers.get(header)?).ok()?;
                candidates.iter().copied().find(|&c| endpoint(c).id.as_bytes() == token)
            }
            Strategy::Session { sources, bindings } => {
                let bound = bindings.get(session(cycle, sources)?, cycle.now)?;
                candidates.iter().copied().find(|&c| endpoint(c).instance == bound)
            }
        }
    }

    /// The value that says where the request belongs, of whichever source has one.
    fn told<'c>(&self, cycle: &Cycle<'c>) -> Option<&'c str> {
        match &self.strategy {
            Strategy::Token { header } => cycle.request.headers.get(header),
            Strategy::Session { sources, .. } => session(cycle, sources),
        }
    }
}

/// A header's name, in lower case.
fn name(p: &mut Fields<'_>, field: &'static str, default: &str) -> String {
    p.string(field).filter(|name| !name.is_empty()).unwrap_or(default).to_ascii_lowercase()
}

/// One of `sources`: either a header, or what a producer found.
fn read_source(p: &mut Fields<'_>, dependencies: &mut Dependencies) -> Option<Source> {
    let header = p.string("header").filter(|name| !name.is_empty());
    let attribute = p.string("attribute").filter(|name| !name.is_empty());
    let producer = p.placed_string("producer");
    match (header, attribute) {
        (Some(header), None) => Some(Source::Header(header.to_ascii_lowercase())),
        (None, Some("SessionID")) => Some(Source::Produced(dependencies.read(producer))),
        (None, Some(_)) => {
            p.error("attribute", "must be 'SessionID': nothing else names a session");
            None
        }
        _ => {
            p.error("header", "exactly one of 'header' and 'attribute' is required");
            None
        }
    }
}

/// The session's id, by the first source that has one.
fn session<'c>(cycle: &Cycle<'c>, sources: &[Source]) -> Option<&'c str> {
    let find = |source: &Source| match source {
        Source::Header(name) => cycle.request.headers.get(name),
        Source::Produced(key) => cycle.data.get(*key).map(|id| id.0.as_str()),
    };
    sources.iter().find_map(|source| find(source).filter(|id| !id.is_empty()))
}

impl Admitter for SessionAffinity {
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError> {
        match self.told(cycle) {
            Some(told) if told.len() > MAX_ID => Err(RequestError::bad_request(format!(
                "the session's header or cookie is longer than {MAX_ID} bytes"
            ))),
            _ => Ok(()),
        }
    }
}

impl PickObserver for SessionAffinity {
    /// Remembers where a session went, for a while from now on. It moves only where the endpoint
    /// that it belongs to was no candidate (llm-d-router main at ebab6879).
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        let Strategy::Session { sources, bindings } = &self.strategy else { return };
        let Some(id) = session(cycle, sources) else { return };
        let target = match &self.profile {
            Some(profile) => cycle.results.named(profile).and_then(|result| result.target()),
            None => picked.primary(),
        };
        let Some(target) = target.and_then(|c| cycle.candidates.get(c as usize)) else { return };
        let is_candidate = |e: u64| cycle.candidates.iter().any(|c| c.endpoint.instance == e);
        bindings.heard_of(id, target.endpoint.instance, cycle.now, is_candidate);
    }
}

impl ResponseHook for SessionAffinity {
    /// Tells the client which endpoint served, in the form in which it is to say it next time.
    fn response_headers(
        &self,
        exchange: &RoutedRequest<'_>,
        _status: Option<u16>,
        directions: &mut Directions,
    ) {
        let Strategy::Token { header } = &self.strategy else { return };
        let decision = exchange.decision;
        let chosen = match &self.profile {
            Some(name) => decision.profile(name),
            None => decision.profiles.first(),
        };
        let Some(chosen) = chosen else { return };
        let served = exchange.served_by;
        let served = chosen.endpoints.iter().find(|e| served == Some(&*e.host_port));
        if let Some(endpoint) = served.or(chosen.target()) {
            directions.set_header(header.clone(), STANDARD.encode(endpoint.id.as_bytes()));
        }
    }
}
