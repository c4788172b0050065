//! `destination-endpoint-served-verifier`: repeats in a response header which endpoint served, as
//! the gateway tells. For conformance tests (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Directions, ResponseHook, RoutedRequest};

pub(super) const TYPE: PluginType =
    PluginType { name: "destination-endpoint-served-verifier", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ResponsePlugin],
    stability: Stability::Beta,
    since: "GIE v1.2",
    summary: "repeats in the response header x-conformance-test-served-endpoint which endpoint served; for tests",
    formula: "",
    parameters: Parameters::Ignored,
};

const HEADER: &str = "x-conformance-test-served-endpoint";
/// Where the gateway does not tell. (The reference has another text where the whole namespace is
/// missing; no test asks for it.)
const MISSING: &str = "fail: missing destination endpoint served metadata";

#[derive(Debug)]
struct DestinationEndpointServedVerifier;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    let verifier = Arc::new(DestinationEndpointServedVerifier);
    Capabilities::default().with::<dyn ResponseHook>(verifier)
}

impl ResponseHook for DestinationEndpointServedVerifier {
    fn response_headers(
        &self,
        exchange: &RoutedRequest<'_>,
        _: Option<u16>,
        directions: &mut Directions,
    ) {
        directions.set_header(HEADER, exchange.served_by.unwrap_or(MISSING).to_owned());
    }
}
