use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::endpoints::Endpoint;

/// Endpoints that a gateway allows for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSubset {
    entries: Vec<(IpAddr, Option<u16>)>,
}

impl EndpointSubset {
    /// Allows what `text` names: `ip`, `ip:port`, several with commas. What is no address allows
    /// nothing; what is no port does not matter.
    pub fn allow(&mut self, text: &str) {
        let ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        for item in text.split(',').map(str::trim) {
            if let Ok(address) = item.parse::<SocketAddr>() {
                self.entries.push((address.ip(), Some(address.port())));
            } else if let Some(ip) =
                ip(item).or_else(|| item.rsplit_once(':').and_then(|(host, _)| ip(host)))
            {
                self.entries.push((ip, None));
            }
        }
    }

    /// The endpoints of `all` that are allowed. An entry with a port means exactly that endpoint
    /// if the pool has it; otherwise, as in the reference (llm-d-router main at ebab6879), the
    /// port does not matter and every endpoint of the address is allowed.
    pub fn of<'e>(&self, all: &'e [Arc<Endpoint>]) -> Vec<&'e Arc<Endpoint>> {
        let has = |ip, port| all.iter().any(|e| e.spec.ip == ip && e.spec.port == port);
        let entries: Vec<(IpAddr, Option<u16>)> =
            self.entries.iter().map(|&(ip, port)| (ip, port.filter(|&p| has(ip, p)))).collect();
        let is_allowed = |e: &&Arc<Endpoint>| {
            let allows = |&(ip, port): &(IpAddr, Option<u16>)| {
                ip == e.spec.ip && port.is_none_or(|p| p == e.spec.port)
            };
            entries.iter().any(allows)
        };
        all.iter().filter(is_allowed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::PoolIds;
    use crate::endpoints::test_support::spec;

    #[test]
    fn a_subset_names_endpoints_in_every_form() {
        let mut rank1 = spec("b-rank-1", 2);
        rank1.port = 8001;
        let ids = PoolIds::default();
        let all: Vec<Arc<Endpoint>> =
            [spec("a", 1), spec("b", 2), rank1].map(|s| Arc::new(Endpoint::new(s, &ids))).into();
        for (texts, expected) in [
            (&["127.0.0.1:8000"][..], &["a"][..]),
            (&["127.0.0.1"], &["a"]),
            (&["127.0.0.2:8001"], &["b-rank-1"]),
            // The address is known, the port is not: the port does not matter.
            (&["127.0.0.2:9999"], &["b", "b-rank-1"]),
            (&["127.0.0.2:8000, 127.0.0.1"], &["a", "b"]),
            (&["127.0.0.1:99999"], &["a"]),
            (&["127.0.0.1:http"], &["a"]),
            (&["127.0.0.1:"], &["a"]),
            (&["127.0.0.1:1:2", ":", ":8000"], &[]),
            // What is no address does not hide what follows it.
            (&["nonsense, 127.0.0.1"], &["a"]),
            (&["10.1.2.3:8000"], &[]),
            (&["not an address", ""], &[]),
        ] {
            let mut subset = EndpointSubset::default();
            texts.iter().for_each(|t| subset.allow(t));
            let names: Vec<&str> = subset.of(&all).iter().map(|e| &*e.spec.name).collect();
            assert_eq!(names, expected, "{texts:?}");
        }
    }
}
