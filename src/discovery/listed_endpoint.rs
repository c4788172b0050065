//! An endpoint as a person lists it.

use std::net::IpAddr;

use crate::endpoints::{EndpointSpec, Labels};

/// Longest host name, bytes (RFC 1035).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// An endpoint of a file or a flag. Behind a host name there may be several addresses, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEndpoint {
    pub namespace: String,
    /// Unique in its namespace.
    pub name: String,
    pub host: Host,
    pub port: u16,
    pub labels: Labels,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Ip(IpAddr),
    /// To be looked up.
    Name(String),
}

impl Host {
    /// Reads an IPv4 or IPv6 address, without brackets, or a host name; `None` for anything else,
    /// such as numbers with dots that are no address.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse() {
            return Some(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !label.is_empty()
                && label.len() <= MAX_LABEL
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = name.rsplit('.').next().unwrap_or(name);
        let is_name = name.len() <= MAX_NAME
            && name.split('.').all(is_label)
            && !last.bytes().all(|b| b.is_ascii_digit());
        is_name.then(|| Self::Name(text.to_owned()))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl ListedEndpoint {
    /// The endpoint at `ip`, one of `of` addresses: of several each is an endpoint, named after
    /// its address besides.
    pub(super) fn at(&self, ip: IpAddr, of: usize) -> EndpointSpec {
        let name = match of {
            0 | 1 => self.name.clone(),
            _ => format!("{}@{ip}", self.name),
        };
        EndpointSpec {
            placement: Default::default(),
            namespace: self.namespace.clone(),
            pod_name: name.clone(),
            name,
            ip,
            port: self.port,
            rank: 0,
            uid: String::new(),
            labels: self.labels.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, is_name) in [
            ("10.0.0.1", Some(false)),
            ("fd00::1", Some(false)),
            ("localhost", Some(true)),
            ("worker-0.workers.default.svc.cluster.local", Some(true)),
            ("worker_0", Some(true)),
            ("example.com.", Some(true)),
            ("3com", Some(true)),
            ("10.0.0.300", None),
            ("10.0.0", None),
            ("10", None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a", None),
            ("a-", None),
            ("a b", None),
            ("a/b", None),
            ("http://a", None),
            ("[fd00::1]", None),
            ("wörker", None),
        ] {
            let host = Host::parse(text);
            let got = host.as_ref().map(|host| matches!(host, Host::Name(_)));
            assert_eq!(got, is_name, "{text}: {host:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(64)), None);
        assert_eq!(Host::parse(&"a.".repeat(127)), Some(Host::Name("a.".repeat(127))));
        assert_eq!(Host::parse(&"a.".repeat(128)), None);
    }
}
