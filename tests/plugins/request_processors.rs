//! What plugins make of a request before anybody decides about it.

use epp::headers::Headers;
use epp::scheduling::{InferenceRequest, RequestProcessor};

use crate::rig::build;

#[test]
fn sessions_of_agents_are_flows() {
    let own = "additionalSessionHeaders: [X-My-Session]";
    type Sent = &'static [(&'static str, &'static str)];
    let cases: [(&str, Sent, &str); 7] = [
        ("", &[], "default-flow"),
        ("", &[("x-claude-code-session-id", "one")], "one"),
        ("", &[("session_id", "two"), ("x-session-affinity", "three")], "three"),
        ("", &[("session-id", "")], "default-flow"),
        ("", &[("x-my-session", "four")], "default-flow"),
        (own, &[("x-my-session", "four"), ("session-id", "two")], "four"),
        // Who says whose request it is knows best.
        ("", &[("session-id", "two"), ("x-gateway-inference-fairness-id", "tenant")], "tenant"),
    ];
    for (parameters, headers, expected) in cases {
        let built = build("agent-identity", parameters);
        let plugin = built.capabilities.get::<dyn RequestProcessor>().expect("processes requests");
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let headers = headers.fold(Headers::default(), |mut all, (k, v)| {
            all.set(k.into(), v.into());
            all
        });
        let mut request = InferenceRequest { headers, ..InferenceRequest::default() };
        plugin.process(&mut request);
        assert_eq!(request.fairness_id(), expected, "{parameters} {:?}", request.headers);
    }
}
