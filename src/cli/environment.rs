//! Flags from environment variables.

use super::spelling::{Arguments, Known};

/// Variables of GIE v0.5.0 that stand for flags; ours win over them.
const OLD: [(&str, &str); 9] = [
    ("GRPC_PORT", "grpc-port"),
    ("GRPC_HEALTH_PORT", "grpc-health-port"),
    ("MODEL_SERVER_METRICS_PORT", "model-server-metrics-port"),
    ("MODEL_SERVER_METRICS_PATH", "model-server-metrics-path"),
    ("DESTINATION_ENDPOINT_HINT_KEY", "destination-endpoint-hint-key"),
    ("POOL_NAME", "pool-name"),
    ("POOL_NAMESPACE", "pool-namespace"),
    ("REFRESH_METRICS_INTERVAL", "refresh-metrics-interval"),
    ("SECURE_SERVING", "secure-serving"),
];

/// Flags of which one is given: with one of them on the command line, what the environment says
/// of the others does not count.
const INSTEAD: [&[&str]; 2] =
    [&["config-file", "config-text"], &["pool-name", "endpoint-selector", "endpoints"]];

/// The variable that stands for a flag: `EPP_POOL_NAME` for `pool-name`.
///
/// Kubernetes sets some that begin like this for a Service called `epp` (`EPP_PORT`,
/// `EPP_SERVICE_HOST`); no flag is called so.
fn variable(flag: &str) -> String {
    format!("EPP_{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// Adds the flags that the environment gives and the command line does not. Returns the mistakes.
pub(super) fn add(
    given: &mut Arguments,
    known: &Known,
    environment: &impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let on_command_line = |flag: &str| {
        let instead = INSTEAD.iter().find(|group| group.contains(&flag));
        match instead {
            Some(group) => group.iter().any(|other| given.has(other)),
            None => given.has(flag),
        }
    };
    let ours = known.names().map(|flag| (variable(flag), flag));
    let old = OLD.map(|(variable, flag)| (variable.to_owned(), flag));
    let mut found: Vec<(String, &str, String)> = Vec::new();
    for (variable, flag) in ours.chain(old) {
        let value = environment(&variable).filter(|value| !value.is_empty());
        if let Some(value) = value
            && !on_command_line(flag)
            && !found.iter().any(|(_, other, _)| *other == flag)
        {
            found.push((variable, flag, value));
        }
    }
    let mut mistakes = Vec::new();
    for (variable, flag, value) in found {
        let (read, wrong) = known.read(&[format!("--{flag}={value}")]);
        given.flags.extend(read.flags);
        if !wrong.is_empty() {
            mistakes.push(format!("{variable}='{value}' is no value for --{flag}"));
        }
    }
    mistakes
}
