//! Looking host names up, again and again.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::{Host, ListedEndpoint};
use crate::endpoints::EndpointSpec;

/// All names of one round are looked up in this time, or have failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lookups under way at one time, each on a thread.
const MAX_RUNNING: usize = 32;

type Addresses = io::Result<Vec<IpAddr>>;
/// A name and what it stands for.
type Answer = (String, Addresses);
type Lookup = Arc<dyn Fn(&str) -> Addresses + Send + Sync>;

/// What host names stand for. A name that cannot be looked up any more keeps its last addresses,
/// and that is logged once.
pub(super) struct HostNames {
    lookup: Lookup,
    known: BTreeMap<String, Vec<IpAddr>>,
    failing: BTreeSet<String>,
    /// Being looked up; one that never ends is not begun again.
    running: BTreeSet<String>,
    answers: (Sender<Answer>, Receiver<Answer>),
}

impl Default for HostNames {
    /// Asks the system.
    fn default() -> Self {
        Self::new(Arc::new(|name| {
            Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        }))
    }
}

impl HostNames {
    fn new(lookup: Lookup) -> Self {
        Self {
            lookup,
            known: BTreeMap::new(),
            failing: BTreeSet::new(),
            running: BTreeSet::new(),
            answers: channel(),
        }
    }

    /// The endpoints at the addresses of now.
    pub(super) fn resolve(&mut self, listed: &[ListedEndpoint]) -> Vec<EndpointSpec> {
        let names = listed.iter().filter_map(|endpoint| match &endpoint.host {
            Host::Name(name) => Some(name.clone()),
            Host::Ip(_) => None,
        });
        self.look_up(names.collect());
        let mut ids = HashSet::new();
        let mut specs = Vec::new();
        for endpoint in listed {
            let addresses = match &endpoint.host {
                Host::Ip(ip) => std::slice::from_ref(ip),
                Host::Name(name) => self.known.get(name).map_or(&[][..], Vec::as_slice),
            };
            for ip in addresses {
                let spec = endpoint.at(*ip, addresses.len());
                if ids.insert((spec.namespace.clone(), spec.name.clone())) {
                    specs.push(spec);
                }
            }
        }
        specs
    }

    /// Looks up `names` and forgets all others.
    fn look_up(&mut self, names: BTreeSet<String>) {
        self.known.retain(|name, _| names.contains(name));
        self.failing.retain(|name| names.contains(name));
        let deadline = Instant::now() + PATIENCE;
        let mut waiting: VecDeque<&String> =
            names.iter().filter(|name| !self.running.contains(*name)).collect();
        loop {
            while self.running.len() < MAX_RUNNING
                && let Some(name) = waiting.pop_front()
            {
                self.begin(name);
            }
            if waiting.is_empty() && names.is_disjoint(&self.running) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.1.recv_timeout(left) {
                Ok((name, answer)) => {
                    self.running.remove(&name);
                    if names.contains(&name) {
                        self.take(&name, answer);
                    }
                }
                Err(_) => break,
            }
        }
        let late: Vec<String> = names
            .iter()
            .filter(|name| self.running.contains(*name) || waiting.contains(name))
            .cloned()
            .collect();
        for name in late {
            self.take(&name, Err(io::ErrorKind::TimedOut.into()));
        }
    }

    fn begin(&mut self, name: &str) {
        let (lookup, send) = (self.lookup.clone(), self.answers.0.clone());
        let wanted = name.to_owned();
        let work = move || {
            let answer = lookup(&wanted);
            // Fails where nobody waits any more.
            _ = send.send((wanted, answer));
        };
        match std::thread::Builder::new().name("host-name".into()).spawn(work) {
            Ok(_) => _ = self.running.insert(name.to_owned()),
            Err(e) => self.take(name, Err(e)),
        }
    }

    /// Takes note of an answer.
    fn take(&mut self, name: &str, answer: Addresses) {
        let error = match answer.map(preferred) {
            Ok(addresses) if !addresses.is_empty() => {
                let before = self.known.insert(name.to_owned(), addresses.clone());
                let is_back = self.failing.remove(name);
                if is_back || before.is_some_and(|before| before != addresses) {
                    tracing::info!(host = name, ?addresses, "Host name looked up");
                }
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.failing.insert(name.to_owned()) {
            match self.known.get(name) {
                Some(addresses) => tracing::warn!(
                    host = name,
                    error,
                    ?addresses,
                    "Host name cannot be looked up; its last addresses stay"
                ),
                None => tracing::warn!(
                    host = name,
                    error,
                    "Host name cannot be looked up; its endpoints are missing until it can"
                ),
            }
        }
    }
}

/// The IPv4 addresses where there are any: a worker that has both would be two.
fn preferred(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.iter().any(IpAddr::is_ipv4) {
        addresses.retain(IpAddr::is_ipv4);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    type Book = Arc<Mutex<BTreeMap<&'static str, Vec<&'static str>>>>;

    fn names(book: &Book) -> HostNames {
        let book = book.clone();
        HostNames::new(Arc::new(move |name: &str| match book.lock().get(name) {
            Some(ips) => Ok(ips.iter().map(|ip| ip.parse().unwrap()).collect()),
            None => Err(io::ErrorKind::NotFound.into()),
        }))
    }

    fn listed(name: &str, host: &str) -> ListedEndpoint {
        ListedEndpoint {
            namespace: "default".into(),
            name: name.into(),
            host: Host::parse(host).unwrap(),
            port: 80,
            labels: Default::default(),
        }
    }

    #[test]
    fn names_are_looked_up_every_time_and_keep_what_they_last_stood_for() {
        let book = Book::default();
        let mut names = names(&book);
        let endpoints = [listed("a", "a.test"), listed("b", "10.0.0.9")];
        // What the name stands for now (`None`: nobody knows), and the endpoints then.
        let steps: [(Option<&[&str]>, &[&str]); 8] = [
            (None, &["b 10.0.0.9:80"]),
            (Some(&["10.0.0.1"]), &["a 10.0.0.1:80", "b 10.0.0.9:80"]),
            (None, &["a 10.0.0.1:80", "b 10.0.0.9:80"]),
            (Some(&[]), &["a 10.0.0.1:80", "b 10.0.0.9:80"]),
            (Some(&["10.0.0.2"]), &["a 10.0.0.2:80", "b 10.0.0.9:80"]),
            (
                Some(&["10.0.0.3", "10.0.0.2", "10.0.0.3"]),
                &["a@10.0.0.2 10.0.0.2:80", "a@10.0.0.3 10.0.0.3:80", "b 10.0.0.9:80"],
            ),
            (Some(&["::1", "10.0.0.2"]), &["a 10.0.0.2:80", "b 10.0.0.9:80"]),
            (Some(&["fd00::1"]), &["a [fd00::1]:80", "b 10.0.0.9:80"]),
        ];
        for (answer, expected) in steps {
            match answer {
                Some(answer) => _ = book.lock().insert("a.test", answer.to_vec()),
                None => _ = book.lock().remove("a.test"),
            }
            let specs = names.resolve(&endpoints);
            let got: Vec<_> =
                specs.iter().map(|s| format!("{} {}", s.name, s.host_port())).collect();
            assert_eq!(got, expected, "{answer:?}");
        }
    }

    #[test]
    fn many_names_are_looked_up_beside_each_other_and_those_that_left_are_forgotten() {
        let lookup = |_: &str| Ok(vec!["10.0.0.1".parse().unwrap()]);
        let mut names = HostNames::new(Arc::new(lookup));
        let many: Vec<_> =
            (0..100).map(|i| listed(&format!("w{i}"), &format!("w{i}.test"))).collect();
        assert_eq!(names.resolve(&many).len(), 100);
        assert_eq!(names.resolve(&many[..1]).len(), 1);
        assert_eq!((names.known.len(), names.running.len()), (1, 0));
    }
}
