//! How a data source asks for its pages: the parameters that all of them share.

use std::path::PathBuf;
use std::time::Duration;

use super::Parameter;
use crate::config::Fields;
use crate::scrape_config::{Scheme, ScrapeConfig};

/// The data layer's tick: nothing is scraped more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

pub(super) const SCHEME: Parameter =
    Parameter::one_of("scheme", &["http", "https"], "the protocol").default("http");
pub(super) const INSECURE_SKIP_VERIFY: Parameter =
    Parameter::boolean("insecureSkipVerify", "accept any certificate").default("true");
pub(super) const CA_CERT_PATH: Parameter =
    Parameter::text("caCertPath", "certificates of the authority to trust instead")
        .example("/tls/ca.crt");
pub(super) const CLIENT_CERT_PATH: Parameter =
    Parameter::text("clientCertPath", "certificate to show")
        .beside("{clientKeyPath: /tls/tls.key}")
        .example("/tls/tls.crt");
pub(super) const CLIENT_KEY_PATH: Parameter = Parameter::text("clientKeyPath", "its key")
    .beside("{clientCertPath: /tls/tls.crt}")
    .example("/tls/tls.key");

/// The path of the page, `default` where none is given.
pub(super) const fn path(default: &'static str) -> Parameter {
    Parameter::text("path", "the path; a slash is put before it where it has none").default(default)
}

/// What a source's parameters set; `None` = not said.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpSource {
    scheme: Option<Scheme>,
    path: Option<String>,
    port: Option<u16>,
    insecure_skip_verify: Option<bool>,
    ca_cert_path: Option<PathBuf>,
    client_cert_path: Option<PathBuf>,
    client_key_path: Option<PathBuf>,
    interval: Option<Duration>,
}

/// Parameters that not every source has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Optional {
    pub port: bool,
    /// `caCertPath`, `clientCertPath`, `clientKeyPath`.
    pub certificates: bool,
}

impl HttpSource {
    /// Reads the parameters; those left out of `optional` are not asked for, so that they are
    /// reported as unknown.
    pub(super) fn read(p: &mut Fields<'_>, optional: Optional) -> Self {
        let scheme = read_scheme(p);
        let path = read_path(p);
        let port = optional.port.then(|| p.int_in("port", 1..=65535)).flatten();
        let insecure_skip_verify = p.bool("insecureSkipVerify");
        let [ca_cert_path, client_cert_path, client_key_path] = match optional.certificates {
            true => read_certificates(p),
            false => [None, None, None],
        };
        Self {
            scheme,
            path,
            port: port.and_then(|port| u16::try_from(port).ok()),
            insecure_skip_verify,
            ca_cert_path,
            client_cert_path,
            client_key_path,
            interval: read_interval(p),
        }
    }

    /// How to scrape: what the parameters say, else what `defaults` say.
    pub(super) fn over(&self, defaults: ScrapeConfig) -> ScrapeConfig {
        let own = self.clone();
        ScrapeConfig {
            scheme: own.scheme.unwrap_or(defaults.scheme),
            path: own.path.unwrap_or(defaults.path),
            port: own.port.or(defaults.port),
            insecure_skip_verify: own.insecure_skip_verify.unwrap_or(defaults.insecure_skip_verify),
            ca_cert_path: own.ca_cert_path.or(defaults.ca_cert_path),
            client_cert_path: own.client_cert_path.or(defaults.client_cert_path),
            client_key_path: own.client_key_path.or(defaults.client_key_path),
            interval: own.interval.or(defaults.interval),
        }
    }
}

fn read_scheme(p: &mut Fields<'_>) -> Option<Scheme> {
    let text = p.string("scheme")?;
    let scheme = Scheme::parse(text);
    if scheme.is_none() {
        p.error("scheme", format!("must be http or https, found '{text}'"));
    }
    scheme
}

fn read_path(p: &mut Fields<'_>) -> Option<String> {
    let path = p.string("path").filter(|path| !path.is_empty())?;
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        p.error("path", format!("must have no blanks, found '{path}'"));
    }
    Some(match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("/{path}"),
    })
}

fn read_certificates(p: &mut Fields<'_>) -> [Option<PathBuf>; 3] {
    let names = ["caCertPath", "clientCertPath", "clientKeyPath"];
    let paths = names.map(|name| p.string(name).filter(|path| !path.is_empty()));
    match paths {
        [_, Some(_), None] => p.error("clientCertPath", "needs clientKeyPath beside it"),
        [_, None, Some(_)] => p.error("clientKeyPath", "needs clientCertPath beside it"),
        _ => {}
    }
    paths.map(|path| path.map(PathBuf::from))
}

fn read_interval(p: &mut Fields<'_>) -> Option<Duration> {
    let interval = p.duration("interval")?;
    if interval < SHORTEST_INTERVAL {
        p.warning("interval", "is less than 50ms; 50ms is used");
    }
    Some(interval.max(SHORTEST_INTERVAL))
}
