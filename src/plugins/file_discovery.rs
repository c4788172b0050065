//! `file-discovery`: the endpoints stand in a file.
//!
//! `path` (required), `watchFile` (default true: a change is taken up as it happens. The
//! reference, llm-d-router main at ebab6879, defaults to false).

use std::path::PathBuf;
use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};

/// What a `file-discovery` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscoveryConfig {
    /// The endpoints file; relative to the working directory.
    pub path: PathBuf,
    /// Take up changes of the file while running.
    pub watch: bool,
}

pub(super) const TYPE: PluginType =
    PluginType { name: "file-discovery", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Discovery],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "the endpoints stand in a file",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("path", "the file, relative to the working directory")
            .required()
            .example("endpoints.yaml"),
        Parameter::boolean(
            "watchFile",
            "take up its changes while running (the reference does not unless told to)",
        )
        .default("true"),
    ]),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut parameters = build.parameters;
    let path = parameters.string("path");
    let watch = parameters.bool("watchFile").unwrap_or(true);
    match path {
        Some("") => parameters.error("path", "must not be empty"),
        None if parameters.is_absent() || parameters.node("path").is_none() => {
            parameters.error("path", "is missing: name the file that lists the endpoints");
        }
        _ => {}
    }
    parameters.finish();
    let path = PathBuf::from(path.unwrap_or_default());
    Capabilities::default().with(Arc::new(FileDiscoveryConfig { path, watch }))
}
