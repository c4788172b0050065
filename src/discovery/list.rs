//! The list of endpoints on the command line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::host_names::HostNames;
use super::{Host, ListedEndpoint};
use crate::endpoints::Pool;
use crate::files::{Follower, Timing};

/// Host names are looked up again after this time.
const RECHECK: Duration = Duration::from_secs(5);

/// Reads the `--endpoints` list: `host:port,host:port,...`, where a host is an address, IPv6 in
/// brackets, or a name. Endpoints are named as they stand there, in namespace `default`. Blanks
/// around entries and empty entries do not matter.
///
/// # Errors
/// Every mistake.
pub fn parse_endpoint_list(text: &str) -> Result<Vec<ListedEndpoint>, Vec<String>> {
    let mut endpoints: Vec<ListedEndpoint> = Vec::new();
    let mut mistakes = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match parse_entry(entry) {
            Some((_, 0)) => mistakes.push(format!("'{entry}': port 0 cannot be called")),
            Some((host, port)) => {
                let endpoint = endpoint(host, port);
                if endpoints.iter().any(|e| e.name == endpoint.name) {
                    mistakes.push(format!("'{entry}' stands twice"));
                } else {
                    endpoints.push(endpoint);
                }
            }
            None => mistakes
                .push(format!("'{entry}' is not host:port (an IPv6 address stands in brackets)")),
        }
    }
    if endpoints.is_empty() && mistakes.is_empty() {
        mistakes.push("no endpoint is listed".into());
    }
    if mistakes.is_empty() { Ok(endpoints) } else { Err(mistakes) }
}

fn parse_entry(entry: &str) -> Option<(Host, u16)> {
    if let Ok(address) = entry.parse::<SocketAddr>() {
        return Some((Host::Ip(address.ip()), address.port()));
    }
    let (name, port) = entry.rsplit_once(':')?;
    // An address without its brackets is none.
    let host = Host::parse(name).filter(|host| matches!(host, Host::Name(_)))?;
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    Some((host, is_number.then(|| port.parse().ok())??))
}

fn endpoint(host: Host, port: u16) -> ListedEndpoint {
    let name = match &host {
        Host::Ip(ip) => SocketAddr::new(*ip, port).to_string(),
        Host::Name(name) => format!("{name}:{port}"),
    };
    let namespace = super::endpoints_file::DEFAULT_NAMESPACE.into();
    ListedEndpoint { namespace, name, host, port, labels: Default::default() }
}

/// Keeps the pool as a list says whose host names may come to stand for other addresses, until
/// dropped.
#[derive(Debug)]
pub struct ListDiscovery {
    /// `None` where the list has no host names.
    _follower: Option<Follower>,
}

impl ListDiscovery {
    /// Fills the pool with those endpoints whose address is known, and marks it synced.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(list: Vec<ListedEndpoint>, pool: Arc<Pool>) -> std::io::Result<Self> {
        let mut names = HostNames::default();
        let mut last = names.resolve(&list);
        pool.replace(last.clone());
        pool.set_synced(true);
        if list.iter().all(|endpoint| matches!(endpoint.host, Host::Ip(_))) {
            return Ok(Self { _follower: None });
        }
        let look = move || {
            let now = names.resolve(&list);
            if now != last {
                pool.replace(now.clone());
                last = now;
            }
        };
        let timing = Timing { recheck: RECHECK, ..Timing::default() };
        let follower = Follower::note_nothing().follow("host-names", timing, look)?;
        Ok(Self { _follower: Some(follower) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        type Outcome = Result<&'static [&'static str], &'static [&'static str]>;
        let cases: &[(&str, Outcome)] = &[
            ("10.0.0.1:8000", Ok(&["10.0.0.1:8000"])),
            (" 10.0.0.1:8000 , [fd00::1]:80,", Ok(&["10.0.0.1:8000", "[fd00::1]:80"])),
            ("[FD00:0::1]:80", Ok(&["[fd00::1]:80"])),
            ("", Err(&["no endpoint is listed"])),
            (" , ", Err(&["no endpoint is listed"])),
            ("10.0.0.1:0", Err(&["'10.0.0.1:0': port 0 cannot be called"])),
            ("10.0.0.1:1,10.0.0.1:1", Err(&["'10.0.0.1:1' stands twice"])),
            ("worker:80,w.test:81", Ok(&["worker:80", "w.test:81"])),
            ("worker:80,worker:80", Err(&["'worker:80' stands twice"])),
            ("worker:0", Err(&["'worker:0': port 0 cannot be called"])),
            (
                "worker,10.0.0.1,10.0.0.1:65536,fd00::1:80,w:,w:+1,w:x,10.0.0:80,http://w:80",
                Err(&[
                    "'worker'",
                    "'10.0.0.1'",
                    "'10.0.0.1:65536'",
                    "'fd00::1:80'",
                    "'w:'",
                    "'w:+1'",
                    "'w:x'",
                    "'10.0.0:80'",
                    "'http://w:80'",
                ]),
            ),
        ];
        for (text, expected) in cases {
            match (parse_endpoint_list(text), expected) {
                (Ok(specs), Ok(names)) => {
                    let got: Vec<_> = specs.iter().map(|s| s.name.as_str()).collect();
                    assert_eq!(got, *names, "{text}");
                    assert!(specs.iter().all(|s| s.port != 0 && s.namespace == "default"));
                }
                (Err(got), Err(mistakes)) => {
                    assert_eq!(got.len(), mistakes.len(), "{text}: {got:?}");
                    for (got, begins) in got.iter().zip(*mistakes) {
                        assert!(got.starts_with(begins), "{text}: {got}");
                    }
                }
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
