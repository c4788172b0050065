//! `header-profile-handler`: the request's header names the profile that runs, so that a
//! coordinator can ask for one stage at a time (llm-d-router main at ebab6879).

use std::sync::{Arc, OnceLock};

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::{Placed, Severity};
use crate::error::RequestError;
use crate::scheduling::{Cycle, Directions, ProfileHandler, ProfileMistake, ProfilesToRun};

pub(super) const TYPE: PluginType =
    PluginType { name: "header-profile-handler", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::ProfileHandler],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "the profile that a request header names",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("headerName", "the header").default("EPP-Profile"),
        Parameter::text("defaultProfile", "the profile of requests without it").default("decode"),
    ]),
};

const DEFAULT_HEADER: &str = "EPP-Profile";
const DEFAULT_PROFILE: &str = "decode";

#[derive(Debug)]
struct HeaderProfileHandler {
    /// In lower case.
    header: String,
    default: Placed<String>,
    profiles: OnceLock<Vec<String>>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let header = p.string("headerName").filter(|name| !name.is_empty());
    let default = p.placed_string("defaultProfile").map(|name| name.map(str::to_owned));
    p.finish();
    let handler = HeaderProfileHandler {
        header: header.unwrap_or(DEFAULT_HEADER).to_ascii_lowercase(),
        default: default.unwrap_or_else(|| Placed {
            value: DEFAULT_PROFILE.to_owned(),
            at: None,
            field: String::new(),
        }),
        profiles: OnceLock::new(),
    };
    Capabilities::default().with::<dyn ProfileHandler>(Arc::new(handler))
}

impl ProfileHandler for HeaderProfileHandler {
    fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>> {
        // Bound once, when the configuration is loaded.
        _ = self.profiles.set(profiles.iter().map(|name| (*name).to_owned()).collect());
        let is_there = profiles.len() == 1 || profiles.contains(&self.default.value.as_str());
        if is_there {
            return Ok(());
        }
        let named = !self.default.field.is_empty();
        Err(vec![ProfileMistake {
            severity: if named { Severity::Error } else { Severity::Warning },
            at: self.default.at,
            field: named.then(|| self.default.field.clone()),
            message: format!(
                "no scheduling profile is called '{}', which requests without the header '{}' get",
                self.default.value, self.header
            ),
        }])
    }

    /// A name that no profile has runs nothing.
    fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun {
        if !cycle.results.is_empty() {
            return ProfilesToRun::new();
        }
        let profiles = self.profiles.get().map(Vec::as_slice).unwrap_or_default();
        if profiles.len() == 1 {
            return ProfilesToRun::from_slice(&[0]);
        }
        let asked = cycle.request.headers.get(&self.header).filter(|name| !name.is_empty());
        let name = asked.unwrap_or(&self.default.value);
        profiles.iter().position(|profile| profile == name).into_iter().collect()
    }

    fn conclude(&self, cycle: &Cycle<'_>, _: &mut Directions) -> Result<usize, RequestError> {
        let ran = (0..cycle.results.len()).find(|&profile| cycle.results.get(profile).is_some());
        ran.ok_or_else(RequestError::no_endpoint_left)
    }

    fn runs_nothing(&self) -> Option<RequestError> {
        // The reference answers so; the name that was asked for is not repeated.
        Some(RequestError::no_endpoint_left())
    }
}
