//! The form of an endpoints file.

use std::collections::HashMap;

use super::{Host, ListedEndpoint};
use crate::config::{Diagnostics, Fields, Position, Value, parse};

/// A larger endpoints file is refused.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Reads an endpoints file, YAML or JSON:
///
/// ```yaml
/// endpoints:
/// - name: worker-0
///   namespace: default     # the default
///   address: 10.0.0.7      # IPv4, IPv6 or a host name
///   port: 8000             # also as a string
///   labels: {llm-d.ai/role: decode}
/// ```
///
/// Returns the entries that are right and every mistake in `diagnostics`. The form is that of
/// `file-discovery` in llm-d-router main at ebab6879, and IPv6 and host names
/// besides.
pub fn parse_endpoints(text: &str, diagnostics: &Diagnostics) -> Vec<ListedEndpoint> {
    let document = match parse(text) {
        Ok(Some(document)) => document,
        Ok(None) => {
            diagnostics.error(None, "", "the file is empty; it must have a list 'endpoints'");
            return Vec::new();
        }
        Err((at, message)) => {
            diagnostics.error(Some(at), "", message);
            return Vec::new();
        }
    };
    let mut root = Fields::new(Some(&document), "", diagnostics);
    if root.is_absent() {
        if document.value == Value::Null {
            diagnostics.error(Some(document.at), "", "must have a list 'endpoints', found null");
        }
        return Vec::new();
    }
    if document.get("endpoints").is_none_or(|list| list.value == Value::Null) {
        root.error("endpoints", "is missing: list the endpoints");
    }
    let entries = root.each("endpoints");
    root.finish();
    let mut seen = Seen::default();
    entries.into_iter().filter_map(|entry| read_entry(entry, &mut seen)).collect()
}

/// Where names and addresses stand that may not come again.
#[derive(Default)]
struct Seen {
    names: HashMap<String, Option<Position>>,
    addresses: HashMap<String, String>,
}

fn read_entry(mut entry: Fields<'_>, seen: &mut Seen) -> Option<ListedEndpoint> {
    let name = required(&mut entry, "name").and_then(|name| identifier(&entry, "name", name));
    let namespace = entry.string("namespace").filter(|namespace| !namespace.is_empty());
    let namespace =
        identifier(&entry, "namespace", namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned());
    let host = required(&mut entry, "address").and_then(|text| address(&entry, &text));
    let port = port(&mut entry);
    let labels = entry.string_map("labels").unwrap_or_default();
    let at = entry.at();
    let (name, namespace) = (name?, namespace?);
    let id = format!("{namespace}/{name}");
    if let Some(first) = seen.names.get(&id) {
        let line = first.map_or(String::new(), |at| format!(", first on line {}", at.line));
        entry.error("name", format!("endpoint '{id}' stands twice{line}"));
        entry.finish();
        return None;
    }
    seen.names.insert(id.clone(), at);
    let endpoint =
        host.zip(port).map(|(host, port)| ListedEndpoint { namespace, name, host, port, labels });
    if let Some(ListedEndpoint { host, port, .. }) = &endpoint {
        let address = match host {
            Host::Ip(ip) => std::net::SocketAddr::new(*ip, *port).to_string(),
            Host::Name(name) => format!("{name}:{port}"),
        };
        if let Some(other) = seen.addresses.insert(address.clone(), id) {
            entry.warning("address", format!("{address} is the address of '{other}' too"));
        }
    }
    entry.finish();
    endpoint
}

fn required(entry: &mut Fields<'_>, name: &'static str) -> Option<String> {
    if entry.node(name).is_none() {
        entry.error(name, "is missing");
        return None;
    }
    entry.string(name).map(str::to_owned)
}

/// Names make up `namespace/name`, so neither may be empty or have a slash.
fn identifier(entry: &Fields<'_>, field: &str, text: String) -> Option<String> {
    if text.is_empty() || text.contains('/') || text.contains(char::is_control) {
        entry.error(field, "must not be empty, nor have a slash or control characters");
        return None;
    }
    Some(text)
}

fn address(entry: &Fields<'_>, text: &str) -> Option<Host> {
    let host = Host::parse(text);
    if host.is_none() {
        let message = format!("must be an IPv4 or IPv6 address or a host name, found '{text}'");
        entry.error("address", message);
    }
    host
}

/// A port, written as a number or as a string.
fn port(entry: &mut Fields<'_>) -> Option<u16> {
    let Some(node) = entry.node("port") else {
        entry.error("port", "is missing");
        return None;
    };
    let port = match &node.value {
        Value::Int(port) => u16::try_from(*port).ok(),
        Value::Str(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let port = port.filter(|port| *port != 0);
    if port.is_none() {
        entry.error("port", "must be a port from 1 to 65535");
    }
    port
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Vec<ListedEndpoint>, String) {
        let diagnostics = Diagnostics::new("f");
        let specs = parse_endpoints(text, &diagnostics);
        (specs, diagnostics.to_string())
    }

    #[test]
    fn files_that_are_right() {
        let cases: &[(&str, &[&str])] = &[
            ("endpoints: []", &[]),
            (
                "endpoints: [{name: a, address: worker-0.local, port: 1}]",
                &["default/a worker-0.local 1 {}"],
            ),
            (
                "endpoints:\n- {name: a, address: 10.0.0.1, port: \"8000\"}\n\
                 - {name: b, namespace: x, address: 'fd00::1', port: 80, labels: {r: '1'}}",
                &["default/a 10.0.0.1 8000 {}", "x/b fd00::1 80 {\"r\": \"1\"}"],
            ),
            (
                r#"{"endpoints": [{"name": "a", "address": "10.0.0.1", "port": "80"}]}"#,
                &["default/a 10.0.0.1 80 {}"],
            ),
            (
                "endpoints:\n- {name: a, namespace: x, address: 10.0.0.1, port: 1}\n\
                 - {name: a, namespace: z, address: 10.0.0.2, port: 1}",
                &["x/a 10.0.0.1 1 {}", "z/a 10.0.0.2 1 {}"],
            ),
        ];
        for (text, expected) in cases {
            let (specs, findings) = read(text);
            let got: Vec<_> = specs
                .iter()
                .map(|s| format!("{}/{} {} {} {:?}", s.namespace, s.name, s.host, s.port, s.labels))
                .collect();
            assert_eq!((got.as_slice(), findings.as_str()), (&*to_strings(expected), ""), "{text}");
        }
    }

    fn to_strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn every_mistake_has_its_place() {
        let cases: &[(&str, &[&str])] = &[
            ("", &["f: the file is empty; it must have a list 'endpoints'"]),
            ("# nothing\n", &["f: the file is empty; it must have a list 'endpoints'"]),
            ("~", &["f:1:1: must have a list 'endpoints', found null"]),
            ("[]", &["f:1:1: must be a mapping, found a list"]),
            ("{}", &["f:1:1: endpoints: is missing: list the endpoints"]),
            (
                "endpoint: []",
                &[
                    "f:1:1: endpoints: is missing: list the endpoints",
                    "f:1:1: endpoint: unknown field 'endpoint'; did you mean 'endpoints'?",
                ],
            ),
            ("endpoints: 7", &["f:1:12: endpoints: must be a list, found an integer"]),
            (
                "endpoints:\n- x\n- ~",
                &[
                    "f:2:3: endpoints[0]: must be a mapping, found a string",
                    "f:3:3: endpoints[1]: must be a mapping, found null",
                ],
            ),
            (
                "endpoints:\n- {name: a, adress: 10.0.0.1, port: 1}",
                &[
                    "f:2:3: endpoints[0].address: is missing",
                    "f:2:13: endpoints[0].adress: unknown field 'adress'; did you mean 'address'?",
                ],
            ),
            (
                "endpoints:\n- {name: a/b, address: worker local, port: 70000}\n\
                 - {name: 3, address: 10.0.0.300, port: '+80'}",
                &[
                    "f:2:10: endpoints[0].name: must not be empty, nor have a slash or control characters",
                    "f:2:24: endpoints[0].address: must be an IPv4 or IPv6 address or a host name, found 'worker local'",
                    "f:2:44: endpoints[0].port: must be a port from 1 to 65535",
                    "f:3:10: endpoints[1].name: must be a string, found an integer",
                    "f:3:22: endpoints[1].address: must be an IPv4 or IPv6 address or a host name, found '10.0.0.300'",
                    "f:3:40: endpoints[1].port: must be a port from 1 to 65535",
                ],
            ),
            (
                "endpoints:\n- {name: a, address: 10.0.0.1, port: 1}\n- {name: a, address: 10.0.0.2, port: 1}",
                &["f:3:10: endpoints[1].name: endpoint 'default/a' stands twice, first on line 2"],
            ),
            (
                "endpoints:\n- {name: a, address: 10.0.0.1, port: 1}\n- {name: b, address: 10.0.0.1, port: 1}",
                &[
                    "f:3:13: warning: endpoints[1].address: 10.0.0.1:1 is the address of 'default/a' too",
                ],
            ),
            ("endpoints: [", &["f:2:1: while parsing a node, did not find expected node content"]),
        ];
        for (text, expected) in cases {
            let (_, findings) = read(text);
            let got: Vec<_> = findings.lines().collect();
            let mut expected = expected.to_vec();
            let mut sorted = got.clone();
            sorted.sort_unstable();
            expected.sort_unstable();
            assert_eq!(sorted, expected, "{text}");
        }
    }

    fn any_endpoint() -> impl Strategy<Value = ListedEndpoint> {
        let label = ("[a-z./-]{1,9}", "\\PC{0,9}");
        let labels = proptest::collection::btree_map(label.0, label.1, 0..3);
        let host = prop_oneof![
            any::<std::net::IpAddr>().prop_map(Host::Ip),
            "[a-z][a-z0-9]{0,9}(\\.[a-z]{1,5}){0,3}".prop_map(Host::Name),
        ];
        ("[^/\\p{C}]{1,12}", "[a-z0-9-]{1,9}", host, 1u16.., labels).prop_map(
            |(name, namespace, host, port, labels)| ListedEndpoint {
                namespace,
                name,
                host,
                port,
                labels,
            },
        )
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}|[-a-z:{}\\[\\],\n ]{0,80}") {
            read(&text);
        }

        #[test]
        fn endpoints_written_as_json_are_read_back(specs in proptest::collection::vec(any_endpoint(), 0..8)) {
            let mut ids = std::collections::HashSet::new();
            let specs: Vec<_> = specs
                .into_iter()
                .filter(|s| ids.insert((s.namespace.clone(), s.name.clone())))
                .collect();
            let entries: Vec<_> = specs
                .iter()
                .map(|s| serde_json::json!({
                    "name": s.name, "namespace": s.namespace, "address": s.host.to_string(),
                    "port": s.port, "labels": s.labels,
                }))
                .collect();
            let text = serde_json::json!({ "endpoints": entries }).to_string();
            prop_assert_eq!(read(&text).0, specs);
        }
    }
}
