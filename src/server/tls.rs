//! What of TLS a listener accepts.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::certificate::CertificateError;
use crate::config::did_you_mean;
use crate::tls::certificates;

/// Which versions and cipher suites of TLS a listener accepts.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
}

impl Default for TlsPolicy {
    /// TLS 1.2 and 1.3, all suites of rustls.
    fn default() -> Self {
        Self { versions: vec![&TLS13, &TLS12], suites: ring::ALL_CIPHER_SUITES.to_vec() }
    }
}

impl TlsPolicy {
    /// Reads `--tls-min-version` and `--tls-cipher-suites`; also returns warnings.
    ///
    /// Versions are Go's `VersionTLS10` to `VersionTLS13`; what lies below TLS 1.2 is raised to
    /// it. Suites are IANA names and, as in Go, limit TLS 1.2 only. Old suites that rustls leaves
    /// out (CBC, RSA key exchange, RC4) are left out here too, as long as a usable one remains.
    ///
    /// # Errors
    /// Every unknown name.
    pub fn parse(
        min_version: Option<&str>,
        suites: &[&str],
    ) -> Result<(Self, Vec<String>), Vec<String>> {
        let mut policy = Self::default();
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        match min_version {
            None | Some("VersionTLS12") => {}
            Some("VersionTLS13") => policy.versions = vec![&TLS13],
            Some(old @ ("VersionTLS10" | "VersionTLS11")) => {
                warnings.push(format!("--tls-min-version: {old} is raised to VersionTLS12"));
            }
            Some(other) => mistakes.push(format!(
                "--tls-min-version: '{other}': expected VersionTLS10, VersionTLS11, VersionTLS12 \
                 or VersionTLS13"
            )),
        }
        if !suites.is_empty() {
            policy.suites.retain(|suite| {
                suite.tls13().is_some() || suites.iter().any(|s| is_called(suite.suite(), s))
            });
            for suite in suites {
                match judge(suite) {
                    Suite::Known => {}
                    Suite::TooOld => warnings
                        .push(format!("--tls-cipher-suites: {suite} is too weak and left out")),
                    Suite::Unknown(hint) => {
                        mistakes.push(format!("--tls-cipher-suites: unknown suite '{suite}'{hint}"))
                    }
                }
            }
            if mistakes.is_empty() && !suites.iter().any(|s| matches!(judge(s), Suite::Known)) {
                mistakes.push("--tls-cipher-suites: none of the suites is usable".into());
            }
        }
        if mistakes.is_empty() { Ok((policy, warnings)) } else { Err(mistakes) }
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider { cipher_suites: self.suites.clone(), ..ring::default_provider() })
    }
}

enum Suite {
    Known,
    TooOld,
    /// With the suite that may be meant.
    Unknown(String),
}

fn judge(name: &str) -> Suite {
    let known = || ring::ALL_CIPHER_SUITES.iter().map(|s| iana_name(s.suite()));
    if ring::ALL_CIPHER_SUITES.iter().any(|s| is_called(s.suite(), name)) {
        Suite::Known
    } else if name.starts_with("TLS_RSA_") || (name.starts_with("TLS_") && is_old_cipher(name)) {
        Suite::TooOld
    } else {
        let names: Vec<String> = known().collect();
        Suite::Unknown(did_you_mean(name, names.iter().map(String::as_str)))
    }
}

fn is_old_cipher(name: &str) -> bool {
    ["_CBC_SHA", "_RC4_", "_3DES_"].iter().any(|old| name.contains(old))
}

/// The name without its hash is Go's older one of the ChaCha suites.
fn is_called(suite: CipherSuite, name: &str) -> bool {
    let iana = iana_name(suite);
    iana == name
        || iana.strip_suffix("_SHA256").is_some_and(|n| n.ends_with("POLY1305") && n == name)
}

fn iana_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}

/// The configuration of a listener that speaks `alpn` with the certificate of `key`; clients must
/// be signed by an authority of the file `client_ca`, if there is one.
///
/// # Errors
/// A policy that rustls cannot work with, or authorities that cannot be read.
pub fn server_config(
    policy: &TlsPolicy,
    key: Arc<dyn ResolvesServerCert>,
    client_ca: Option<&Path>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, CertificateError> {
    let provider = policy.provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&policy.versions)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|e| CertificateError::ClientCa { file: path.to_owned(), source: e })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(key);
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The TLS 1.2 suites of a policy that parses, and its warnings.
    fn parsed(version: Option<&str>, suites: &[&str]) -> (TlsPolicy, Vec<String>, usize) {
        let (policy, warnings) = TlsPolicy::parse(version, suites).unwrap();
        let tls12 = policy.suites.iter().filter(|s| s.tls13().is_none()).count();
        (policy, warnings, tls12)
    }

    #[test]
    fn versions() {
        for (version, count, warned) in [
            (None, 2, false),
            (Some("VersionTLS10"), 2, true),
            (Some("VersionTLS11"), 2, true),
            (Some("VersionTLS12"), 2, false),
            (Some("VersionTLS13"), 1, false),
        ] {
            let (policy, warnings, _) = parsed(version, &[]);
            assert_eq!(policy.versions.len(), count, "{version:?}");
            assert_eq!(!warnings.is_empty(), warned, "{version:?}");
        }
        assert!(TlsPolicy::parse(Some("1.3"), &[]).is_err());
    }

    #[test]
    fn suites_limit_tls_1_2_only() {
        let all = parsed(None, &[]).2;
        for (suites, expected, warned) in [
            (&[][..], all, 0),
            (&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], 1, 0),
            (&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"], 1, 0),
            (&["TLS_AES_128_GCM_SHA256"], 0, 0),
            (&["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA"], 1, 1),
        ] {
            let (policy, warnings, tls12) = parsed(None, suites);
            assert_eq!((tls12, warnings.len()), (expected, warned), "{suites:?}");
            assert_eq!(policy.suites.len() - tls12, 3, "the suites of TLS 1.3");
        }
    }

    #[test]
    fn unknown_suites_are_told_with_the_nearest_one() {
        let mistakes =
            TlsPolicy::parse(None, &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA255", "x"]).unwrap_err();
        assert_eq!(
            mistakes,
            [
                "--tls-cipher-suites: unknown suite 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA255'; \
                 did you mean 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'?",
                "--tls-cipher-suites: unknown suite 'x'",
            ]
        );
        let only_old = TlsPolicy::parse(None, &["TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap_err();
        assert_eq!(only_old, ["--tls-cipher-suites: none of the suites is usable"]);
    }
}
