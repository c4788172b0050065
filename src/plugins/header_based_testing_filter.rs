//! `header-based-testing-filter`: a request's header says where it goes. For conformance tests
//! (llm-d-router main at ebab6879).

use std::net::{IpAddr, SocketAddr};

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "header-based-testing-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "GIE v0.5",
    summary: "the endpoints that the header test-epp-endpoint-selection lists, in its order; without it none",
    formula: "",
    parameters: Parameters::Ignored,
};

const HEADER: &str = "test-epp-endpoint-selection";

#[derive(Debug)]
struct HeaderBasedTestingFilter;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(HeaderBasedTestingFilter)
}

impl Filter for HeaderBasedTestingFilter {
    fn wants(&self) -> String {
        format!("to be listed in the request header {HEADER}")
    }

    /// Keeps the endpoints that the header lists as `ip` or `ip:port`, in its order, each address
    /// once; without the header none.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let listed = cycle.request.headers.get(HEADER).unwrap_or_default();
        let mut seen: Vec<IpAddr> = Vec::new();
        let mut kept = Vec::new();
        for item in listed.split(',').map(str::trim) {
            let (ip, port) = match item.parse::<SocketAddr>() {
                Ok(address) => (address.ip(), Some(address.port())),
                Err(_) => match item.trim_matches(['[', ']']).parse() {
                    Ok(ip) => (ip, None),
                    Err(_) => continue,
                },
            };
            if seen.contains(&ip) {
                continue;
            }
            let is_it = |&&c: &&u32| {
                let spec = &cycle.candidates[c as usize].endpoint.spec;
                spec.ip == ip && port.is_none_or(|port| port == spec.port)
            };
            if let Some(&found) = candidates.iter().find(is_it) {
                seen.push(ip);
                kept.push(found);
            }
        }
        *candidates = kept;
    }
}
