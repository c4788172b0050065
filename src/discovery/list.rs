use std::net::SocketAddr;

use crate::endpoints::EndpointSpec;

/// Reads the `--endpoints` list: `ip:port,ip:port,...`, IPv6 addresses in brackets. Endpoints
/// are named `ip:port`, in namespace `default`. Blanks around entries and empty entries do not
/// matter. The error lists every mistake.
pub fn parse_endpoint_list(text: &str) -> Result<Vec<EndpointSpec>, Vec<String>> {
    let mut specs: Vec<EndpointSpec> = Vec::new();
    let mut mistakes = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                mistakes.push(format!("'{entry}': port 0 cannot be called"));
            }
            Ok(address) => {
                let spec = spec(address);
                if specs.iter().any(|s| s.name == spec.name) {
                    mistakes.push(format!("'{entry}' stands twice"));
                } else {
                    specs.push(spec);
                }
            }
            Err(_) => mistakes.push(format!(
                "'{entry}' is not ip:port (an IPv6 address stands in brackets; host names are not \
                 resolved)"
            )),
        }
    }
    if specs.is_empty() && mistakes.is_empty() {
        mistakes.push("no endpoint is listed".into());
    }
    if mistakes.is_empty() { Ok(specs) } else { Err(mistakes) }
}

fn spec(address: SocketAddr) -> EndpointSpec {
    let name = address.to_string();
    EndpointSpec {
        namespace: super::endpoints_file::DEFAULT_NAMESPACE.into(),
        pod_name: name.clone(),
        name,
        ip: address.ip(),
        port: address.port(),
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
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
            (
                "worker:80,10.0.0.1,10.0.0.1:65536,fd00::1:80",
                Err(&["'worker:80'", "'10.0.0.1'", "'10.0.0.1:65536'", "'fd00::1:80'"]),
            ),
        ];
        for (text, expected) in cases {
            match (parse_endpoint_list(text), expected) {
                (Ok(specs), Ok(names)) => {
                    let got: Vec<_> = specs.iter().map(|s| s.name.as_str()).collect();
                    assert_eq!(got, *names, "{text}");
                    assert!(specs.iter().all(|s| s.host_port() == s.name), "{text}");
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
