//! Listeners, routes and clusters, out of a bootstrap configuration or a dump.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::{get, is_type, list, number, text, truth};

/// The type of the filter that asks a picker.
const EXT_PROC: &str = "ExternalProcessor";
const CONNECTION_MANAGER: &str = "HttpConnectionManager";
/// Words in the names of filters and clusters that are of pickers; other services are asked over
/// ext_proc too.
const PICKER_WORDS: [&str; 6] =
    ["epp", "endpointpicker", "endpoint-picker", "endpoint_picker", "picker", "inference-pool"];

/// What a configuration consists of.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    listeners: Vec<&'a Value>,
    clusters: BTreeMap<&'a str, &'a Value>,
    routes: BTreeMap<&'a str, &'a Value>,
}

/// One HTTP connection manager.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// Bytes; `None`: Envoy's default.
    pub buffer: Option<u64>,
    pub manager: &'a Value,
    /// Its ext_proc filters that are of pickers.
    pub pickers: Vec<Picker<'a>>,
}

/// An ext_proc filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picker<'a> {
    filter: &'a Value,
    pub config: &'a Value,
}

impl<'a> Picker<'a> {
    /// Routes have to switch it on.
    pub(super) fn is_off(&self) -> bool {
        truth(self.filter, &["disabled"])
    }

    pub(super) fn filter_name(&self) -> &'a str {
        text(self.filter, &["name"]).unwrap_or("ext_proc")
    }

    /// The cluster that it asks.
    pub(super) fn cluster(&self) -> Option<&'a str> {
        text(self.config, &["grpc_service", "envoy_grpc", "cluster_name"])
    }

    pub(super) fn name(&self, connection: &Connection<'_>) -> String {
        let filter = self.filter_name();
        let short = filter.strip_prefix("envoy.filters.http.").unwrap_or(filter);
        format!("listener {}, {short}", connection.listener)
    }

    fn is_named_picker(&self) -> bool {
        let authority = text(self.config, &["grpc_service", "envoy_grpc", "authority"]);
        let target = text(self.config, &["grpc_service", "google_grpc", "target_uri"]);
        let names = [Some(self.filter_name()), self.cluster(), authority, target];
        names.into_iter().flatten().any(|name| {
            let name = name.to_ascii_lowercase();
            PICKER_WORDS.iter().any(|word| name.contains(word))
        })
    }
}

impl<'a> Document<'a> {
    /// What is found in `value`, which may be anything.
    pub(super) fn read(value: &'a Value) -> Self {
        let mut document = Self::default();
        document.bootstrap(value);
        let configs = list(value, &["configs"]);
        for config in configs {
            match () {
                () if is_type(config, "ListenersConfigDump") => document.listeners_of(config),
                () if is_type(config, "ClustersConfigDump") => document.clusters_of(config),
                () if is_type(config, "RoutesConfigDump") => document.routes_of(config),
                () => {}
            }
        }
        // What a bootstrap has stands in the dumps of listeners and clusters again.
        for config in configs.iter().filter(|config| is_type(config, "BootstrapConfigDump")) {
            if let Some(bootstrap) = get(config, &["bootstrap"])
                && document.listeners.is_empty()
            {
                document.bootstrap(bootstrap);
            }
        }
        document
    }

    fn bootstrap(&mut self, value: &'a Value) {
        self.listeners.extend(list(value, &["static_resources", "listeners"]));
        list(value, &["static_resources", "clusters"]).iter().for_each(|c| self.add_cluster(c));
    }

    fn listeners_of(&mut self, dump: &'a Value) {
        let fixed = list(dump, &["static_listeners"]);
        self.listeners.extend(fixed.iter().filter_map(|entry| get(entry, &["listener"])));
        let moving = list(dump, &["dynamic_listeners"]);
        let active = |entry| get(entry, &["active_state", "listener"]);
        self.listeners.extend(moving.iter().filter_map(active));
    }

    fn clusters_of(&mut self, dump: &'a Value) {
        for part in ["static_clusters", "dynamic_active_clusters"] {
            let entries = list(dump, &[part]).iter();
            entries.filter_map(|e| get(e, &["cluster"])).for_each(|c| self.add_cluster(c));
        }
    }

    fn routes_of(&mut self, dump: &'a Value) {
        for part in ["static_route_configs", "dynamic_route_configs"] {
            for route in list(dump, &[part]).iter().filter_map(|e| get(e, &["route_config"])) {
                if let Some(name) = text(route, &["name"]) {
                    self.routes.insert(name, route);
                }
            }
        }
    }

    fn add_cluster(&mut self, cluster: &'a Value) {
        if let Some(name) = text(cluster, &["name"]) {
            self.clusters.insert(name, cluster);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    pub(super) fn cluster(&self, name: &str) -> Option<&'a Value> {
        self.clusters.get(name).copied()
    }

    /// The routes of a connection manager; `None` where they are not in the document.
    pub(super) fn routes(&self, connection: &Connection<'a>) -> Option<&'a Value> {
        let manager = connection.manager;
        get(manager, &["route_config"])
            .filter(|routes| routes.is_object())
            .or_else(|| self.routes.get(text(manager, &["rds", "route_config_name"])?).copied())
    }

    /// All HTTP connection managers.
    pub(super) fn connections(&self) -> Vec<Connection<'a>> {
        let mut all = Vec::new();
        for listener in &self.listeners {
            let chains = list(listener, &["filter_chains"]).iter();
            let chains = chains.chain(get(listener, &["default_filter_chain"]));
            let filters = chains.flat_map(|chain| list(chain, &["filters"]));
            for manager in filters.filter_map(|filter| get(filter, &["typed_config"])) {
                if is_type(manager, CONNECTION_MANAGER) {
                    all.push(Connection {
                        listener: text(listener, &["name"]).unwrap_or("without a name"),
                        buffer: number(listener, &["per_connection_buffer_limit_bytes"]),
                        manager,
                        pickers: pickers(manager),
                    });
                }
            }
        }
        all
    }
}

/// The ext_proc filters of a connection manager that are of pickers: those whose names say so, or
/// the only one.
fn pickers(manager: &Value) -> Vec<Picker<'_>> {
    let filters = list(manager, &["http_filters"]).iter();
    let all: Vec<Picker<'_>> = filters
        .filter_map(|filter| Some(Picker { filter, config: get(filter, &["typed_config"])? }))
        .filter(|picker| is_type(picker.config, EXT_PROC))
        .collect();
    let named: Vec<Picker<'_>> = all.iter().copied().filter(Picker::is_named_picker).collect();
    if named.is_empty() { all } else { named }
}
