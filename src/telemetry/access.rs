use std::fmt;

use super::logging::ACCESS_TARGET;
use crate::endpoints::Endpoint;

/// What the line of one request tells.
#[derive(Clone, Copy, Debug)]
pub struct Handled<'a> {
    pub request_id: &'a str,
    /// The objective the request named; empty where none.
    pub objective: &'a str,
    pub priority: i32,
    /// The model as the client asked for it.
    pub model: &'a str,
    /// The model as the worker is asked for it.
    pub target_model: &'a str,
    pub endpoint: &'a Endpoint,
    /// Blocks of the prompt believed cached at the endpoint, and all blocks, where known.
    pub prefix_blocks: Option<(u32, u32)>,
}

/// Writes the line `Request handled`. Message and keys are those that people search their logs
/// for (llm-d-router main at ebab6879; `x-request-id` from llm-d v0.2.0).
pub fn request_handled(handled: &Handled<'_>) {
    let Handled { request_id, objective, priority, model, target_model, endpoint, .. } = *handled;
    let (matched, total) = handled.prefix_blocks.unzip();
    tracing::info!(
        target: ACCESS_TARGET,
        objectiveKey = objective,
        "x-request-id" = request_id,
        priority,
        incomingModelName = model,
        targetModel = target_model,
        endpoint = %Named(endpoint),
        prefixBlocksCached = matched,
        prefixBlocks = total,
        "Request handled",
    );
}

/// An endpoint in the notation of the reference, which prints a Go struct.
struct Named<'a>(&'a Endpoint);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { id, spec, .. } = self.0;
        write!(f, "{{NamespacedName:{id} Address:{} Port:{}}}", spec.ip, spec.port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::logging::{Captured, Encoder, LogOptions, Logger, Sink, TimeEncoding};
    use super::*;
    use crate::endpoints::test_support::endpoint;

    #[test]
    fn the_line_has_the_keys_people_search_for() {
        let captured = Captured::default();
        let sink = Sink::start(Box::new(captured.clone()));
        let options = LogOptions::new(2, None, None, Encoder::Json, TimeEncoding::Rfc3339);
        tracing::subscriber::with_default(Logger::new(options, sink.clone()), || {
            request_handled(&Handled {
                request_id: "abc",
                objective: "",
                priority: -1,
                model: "llama",
                target_model: "llama-v2",
                endpoint: &endpoint("pod-rank-0", 7),
                prefix_blocks: Some((3, 9)),
            });
        });
        sink.close();
        let line: serde_json::Value = serde_json::from_str(&captured.text()).unwrap();
        for (key, value) in [
            ("level", "info"),
            ("msg", "Request handled"),
            ("x-request-id", "abc"),
            ("objectiveKey", ""),
            ("incomingModelName", "llama"),
            ("targetModel", "llama-v2"),
            ("endpoint", "{NamespacedName:default/pod-rank-0 Address:127.0.0.7 Port:8000}"),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert_eq!(line["priority"], -1);
        assert_eq!(line["prefixBlocksCached"], 3);
        assert_eq!(line["prefixBlocks"], 9);
    }
}
