//! Envoy's configuration for a turn: the one that ships, with its ports, and with or without a
//! picker.

use serde_json::{Value, json};

use super::contender::Balancing;

const SHIPPED: &str = include_str!("../../../deploy/envoy/standalone.yaml");
/// A response header that says which engine answered.
pub(super) const SERVED_BY: &str = "x-served-by";

/// Who tells Envoy where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guide<'a> {
    /// A picker that serves ext_proc in plaintext on this port of this machine.
    Picker(u16),
    Itself(Balancing, &'a [String]),
}

/// The configuration as JSON, which Envoy reads as well.
///
/// # Errors
/// Where the file that ships has no place for what is to be set.
pub(super) fn configuration(guide: Guide<'_>, gateway: u16, admin: u16) -> Result<String, String> {
    let mut whole: Value = serde_yaml::from_str(SHIPPED).map_err(|e| e.to_string())?;
    const LISTENER: &str = "/static_resources/listeners/0";
    const HTTP: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    *at(&mut whole, "/admin/address/socket_address/port_value")? = admin.into();
    *at(&mut whole, &format!("{LISTENER}/address/socket_address/port_value"))? = gateway.into();
    at(&mut whole, &format!("{HTTP}/route_config/virtual_hosts/0"))?["response_headers_to_add"] =
        json!([{"header": {"key": SERVED_BY, "value": "%UPSTREAM_REMOTE_ADDRESS%"}}]);
    match guide {
        Guide::Picker(port) => {
            let picker = cluster(&mut whole, "epp")?;
            // Not every picker serves TLS in the same way: all of them are asked without.
            picker.as_object_mut().and_then(|picker| picker.remove("transport_socket"));
            *at(
                picker,
                "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value",
            )? = port.into();
        }
        Guide::Itself(balancing, endpoints) => {
            let filters = at(&mut whole, &format!("{HTTP}/http_filters"))?;
            without(filters, |filter| filter["name"] == "envoy.filters.http.ext_proc");
            let clusters = at(&mut whole, "/static_resources/clusters")?;
            without(clusters, |cluster| cluster["name"] == "epp");
            let workers = cluster(&mut whole, "picked_worker")?;
            workers.as_object_mut().and_then(|workers| workers.remove("original_dst_lb_config"));
            workers["type"] = "STATIC".into();
            workers["lb_policy"] = balancing.policy().into();
            workers["load_assignment"] = json!({
                "cluster_name": "picked_worker",
                "endpoints": [{"lb_endpoints": addresses(endpoints)?}],
            });
        }
    }
    Ok(whole.to_string())
}

fn addresses(endpoints: &[String]) -> Result<Value, String> {
    let one = |endpoint: &String| {
        let address: std::net::SocketAddr =
            endpoint.parse().map_err(|e| format!("{endpoint}: {e}"))?;
        let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
        Ok(json!({"endpoint": {"address": {"socket_address": socket}}}))
    };
    endpoints.iter().map(one).collect()
}

fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value, String> {
    value
        .pointer_mut(pointer)
        .ok_or_else(|| format!("deploy/envoy/standalone.yaml has nothing at {pointer}"))
}

fn cluster<'a>(whole: &'a mut Value, name: &str) -> Result<&'a mut Value, String> {
    let clusters = at(whole, "/static_resources/clusters")?;
    let mut clusters = clusters.as_array_mut().into_iter().flatten();
    clusters
        .find(|cluster| cluster["name"] == name)
        .ok_or_else(|| format!("deploy/envoy/standalone.yaml has no cluster {name}"))
}

fn without(list: &mut Value, unwanted: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| !unwanted(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(guide: Guide<'_>) -> Value {
        serde_json::from_str(&configuration(guide, 1, 2).unwrap()).unwrap()
    }

    #[test]
    fn a_picker_is_asked_in_plaintext_on_its_port() {
        let mut whole = made(Guide::Picker(3));
        assert_eq!(whole["admin"]["address"]["socket_address"]["port_value"], 2);
        let picker = cluster(&mut whole, "epp").unwrap();
        assert!(picker.get("transport_socket").is_none());
        assert!(picker.to_string().contains(r#""port_value":3"#), "{picker}");
    }

    #[test]
    fn without_a_picker_envoy_knows_the_endpoints_and_asks_nobody() {
        let endpoints = ["127.0.0.1:8001".to_owned(), "[::1]:8002".to_owned()];
        let mut whole = made(Guide::Itself(Balancing::LeastRequest, &endpoints));
        assert!(!whole.to_string().contains("ext_proc"));
        assert!(cluster(&mut whole, "epp").is_err());
        let workers = cluster(&mut whole, "picked_worker").unwrap();
        assert_eq!(workers["lb_policy"], "LEAST_REQUEST");
        let socket = |i: usize| {
            workers["load_assignment"]["endpoints"][0]["lb_endpoints"][i]["endpoint"]["address"]
                ["socket_address"]
                .clone()
        };
        assert_eq!(socket(0), json!({"address": "127.0.0.1", "port_value": 8001}));
        assert_eq!(socket(1), json!({"address": "::1", "port_value": 8002}));
    }
}
