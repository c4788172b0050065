use std::time::Duration;

/// Name of this service where nobody gives it one, as in the reference.
const SERVICE_NAME: &str = "llm-d-epp";
/// Where a collector is looked for where nobody says (OTLP's own default).
const ENDPOINT: &str = "http://localhost:4317";
/// Share of the requests that are sampled where nobody says, as in the reference.
const RATIO: f64 = 0.1;
/// How long one delivery may take where nobody says (OTLP's own default).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Spans that may wait for delivery where nobody says (OpenTelemetry's own default).
const QUEUE: usize = 2048;
/// How long spans wait for others to go with them, likewise.
const DELAY: Duration = Duration::from_secs(5);

/// Which requests are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Share of the requests, 0 to 1.
    pub ratio: f64,
    /// A request that comes with a trace is sampled as that is.
    pub follows_parent: bool,
}

/// Where spans go, from the environment variables of OpenTelemetry.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingOptions {
    /// URL of the collector.
    pub endpoint: String,
    pub service_name: String,
    pub sampling: Sampling,
    /// How long one delivery may take.
    pub timeout: Duration,
    /// Spans that may wait for delivery; more are dropped.
    pub queue: usize,
    /// How long spans wait for others to go with them.
    pub delay: Duration,
}

impl TracingOptions {
    /// `None` where no exporter is set. What is wrong, or means nothing here, is put into
    /// `warnings`; the default is taken in its place.
    ///
    /// # Errors
    /// An address that is none.
    pub fn read(
        environment: impl Fn(&str) -> Option<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, String> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let exporter = variable("OTEL_TRACES_EXPORTER");
        match exporter.as_deref() {
            None if endpoint.is_none() => return Ok(None),
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                warnings.push(format!(
                    "OTEL_TRACES_EXPORTER='{other}': the exporters are otlp and none; no spans \
                     are sent"
                ));
                return Ok(None);
            }
        }
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(protocol) = protocol.filter(|protocol| protocol != "grpc") {
            warnings.push(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL='{protocol}': spans are sent as grpc all the same"
            ));
        }
        let mut milliseconds = |name: &str, default| {
            number(name, variable(name), warnings).map_or(default, Duration::from_millis)
        };
        let timeout = milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT);
        let delay = milliseconds("OTEL_BSP_SCHEDULE_DELAY", DELAY);
        let queue = "OTEL_BSP_MAX_QUEUE_SIZE";
        let queue = number(queue, variable(queue), warnings).and_then(|n| usize::try_from(n).ok());
        Ok(Some(Self {
            endpoint: url(endpoint.as_deref().unwrap_or(ENDPOINT))?,
            service_name: variable("OTEL_SERVICE_NAME").unwrap_or_else(|| SERVICE_NAME.to_owned()),
            sampling: sampling(&variable, warnings),
            timeout,
            queue: queue.unwrap_or(QUEUE).max(1),
            delay,
        }))
    }
}

fn number(name: &str, value: Option<String>, warnings: &mut Vec<String>) -> Option<u64> {
    let value = value?;
    let number = value.parse().ok();
    if number.is_none() {
        warnings.push(format!("{name}='{value}' is no number; it is ignored"));
    }
    number
}

/// The address with its scheme; one that has none is plain HTTP.
fn url(text: &str) -> Result<String, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let is_url = full.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if is_url {
        return Ok(full);
    }
    Err(format!(
        "OTEL_EXPORTER_OTLP_ENDPOINT: '{text}' is no address such as http://collector:4317"
    ))
}

fn sampling(variable: &impl Fn(&str) -> Option<String>, warnings: &mut Vec<String>) -> Sampling {
    let sampler = variable("OTEL_TRACES_SAMPLER");
    let name = sampler.as_deref().unwrap_or("parentbased_traceidratio");
    let (follows_parent, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name),
    };
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let text = variable("OTEL_TRACES_SAMPLER_ARG");
            let ratio = text
                .as_deref()
                .map(|text| text.parse().ok().filter(|ratio: &f64| (0.0..=1.0).contains(ratio)));
            if let (Some(None), Some(text)) = (ratio, text) {
                warnings.push(format!(
                    "OTEL_TRACES_SAMPLER_ARG='{text}' is no share from 0 to 1; it is {RATIO}"
                ));
            }
            ratio.flatten().unwrap_or(RATIO)
        }
        _ => {
            warnings.push(format!(
                "OTEL_TRACES_SAMPLER='{name}' is not known here; it is parentbased_traceidratio, \
                 {RATIO}"
            ));
            return Sampling { ratio: RATIO, follows_parent: true };
        }
    };
    Sampling { ratio, follows_parent }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    type Read = (Result<Option<TracingOptions>, String>, Vec<String>);

    fn read(environment: &[(&str, &str)]) -> Read {
        let environment: HashMap<&str, &str> = environment.iter().copied().collect();
        let mut warnings = Vec::new();
        let variable = |name: &str| environment.get(name).map(|value| (*value).to_owned());
        let options = TracingOptions::read(variable, &mut warnings);
        (options, warnings)
    }

    #[test]
    fn it_is_on_where_an_exporter_is_set() {
        let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let exporter = "OTEL_TRACES_EXPORTER";
        for (environment, expected) in [
            (&[][..], None),
            (&[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "always_on")], None),
            (&[(exporter, "none"), (endpoint, "http://c:4317")], None),
            (&[(exporter, "")], None),
            (&[(exporter, "otlp"), ("OTEL_SDK_DISABLED", "true")], None),
            (&[(exporter, "otlp")], Some("http://localhost:4317")),
            (&[(endpoint, "http://c:4317")], Some("http://c:4317")),
            (&[(endpoint, "c:4317")], Some("http://c:4317")),
            (&[(endpoint, "https://c")], Some("https://c")),
            (
                &[(endpoint, "http://c:1"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:2")],
                Some("http://d:2"),
            ),
        ] {
            let (options, warnings) = read(environment);
            let found = options.unwrap().map(|options| options.endpoint);
            assert_eq!(found.as_deref(), expected, "{environment:?}");
            assert_eq!(warnings, [""; 0], "{environment:?}");
        }
    }

    #[test]
    fn defaults_are_the_references() {
        let (options, _) = read(&[("OTEL_TRACES_EXPORTER", "otlp")]);
        let expected = TracingOptions {
            endpoint: "http://localhost:4317".into(),
            service_name: "llm-d-epp".into(),
            sampling: Sampling { ratio: 0.1, follows_parent: true },
            timeout: Duration::from_secs(10),
            queue: 2048,
            delay: Duration::from_secs(5),
        };
        assert_eq!(options, Ok(Some(expected)));
    }

    #[test]
    fn samplers() {
        let (sampler, share) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
        for (environment, (ratio, follows_parent), warned) in [
            (&[][..], (0.1, true), None),
            (&[(share, "0.05")], (0.05, true), None),
            (&[(share, "1.5")], (0.1, true), Some("is no share")),
            (&[(share, "x")], (0.1, true), Some("is no share")),
            (&[(sampler, "always_on")], (1.0, false), None),
            (&[(sampler, "parentbased_always_on")], (1.0, true), None),
            (&[(sampler, "parentbased_always_off")], (0.0, true), None),
            (&[(sampler, "traceidratio"), (share, "0.5")], (0.5, false), None),
            (&[(sampler, "xray"), (share, "0.5")], (0.1, true), Some("is not known")),
        ] {
            let mut environment = environment.to_vec();
            environment.push(("OTEL_TRACES_EXPORTER", "otlp"));
            let (options, warnings) = read(&environment);
            let found = options.unwrap().unwrap().sampling;
            assert_eq!(found, Sampling { ratio, follows_parent }, "{environment:?}");
            let text = warnings.join(" ");
            assert_eq!(warnings.len(), warned.map_or(0, |_| 1), "{environment:?} {text}");
            assert!(warned.is_none_or(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let (endpoint, exporter) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER");
        for bad in ["http://", "ftp://c:1", "http://a b"] {
            let told = read(&[(endpoint, bad)]).0.unwrap_err();
            assert!(told.contains(bad) && told.contains(endpoint), "{told}");
        }
        for (environment, expected) in [
            (&[(exporter, "console")][..], "OTEL_TRACES_EXPORTER='console'"),
            (&[(exporter, "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "as grpc"),
            (&[(exporter, "otlp"), ("OTEL_BSP_MAX_QUEUE_SIZE", "-1")], "is no number"),
            (&[(exporter, "otlp"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")], "is no number"),
        ] {
            let (options, warnings) = read(environment);
            assert!(options.is_ok());
            assert!(warnings.join(" ").contains(expected), "{environment:?}: {warnings:?}");
        }
    }
}
