//! What is compared: everything that can stand between a client and the engines.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// How Envoy spreads requests where it asks nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Balancing {
    /// One after the other.
    RoundRobin,
    /// Of two random endpoints the one with fewer requests of this Envoy in progress.
    LeastRequest,
    Random,
}

impl Balancing {
    fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round robin",
            Self::LeastRequest => "least request",
            Self::Random => "random",
        }
    }

    /// As Envoy's `lb_policy` spells it.
    pub(super) fn policy(self) -> &'static str {
        match self {
            Self::RoundRobin => "ROUND_ROBIN",
            Self::LeastRequest => "LEAST_REQUEST",
            Self::Random => "RANDOM",
        }
    }
}

/// An endpoint picker that is not ours, with the name it has in reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherPicker {
    pub name: String,
    pub binary: PathBuf,
}

/// Reads `NAME=BINARY`, or a path whose last part is the name.
pub(super) fn other_picker(text: &str) -> Result<OtherPicker, String> {
    let (name, binary) = match text.split_once('=') {
        Some((name, binary)) => (name.to_owned(), PathBuf::from(binary)),
        None => (stem(Path::new(text)), PathBuf::from(text)),
    };
    if !binary.is_file() {
        return Err(format!("there is no program {}", binary.display()));
    }
    Ok(OtherPicker { name, binary })
}

/// Who chooses the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Router {
    /// `epp`, with its own defaults where no configuration is given.
    Epp {
        config: Option<PathBuf>,
    },
    Other {
        binary: PathBuf,
        config: PathBuf,
    },
    Envoy(Balancing),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contender {
    pub name: String,
    pub router: Router,
}

/// Everything that is asked for, in the order of the report: `epp` with each of `configs`, others
/// with each of `theirs`.
///
/// # Errors
/// Where two would have one name, and where another picker has no configuration.
pub(super) fn contenders(
    configs: &[PathBuf],
    (others, theirs): (&[OtherPicker], &[PathBuf]),
    baselines: &[Balancing],
) -> Result<Vec<Contender>, String> {
    if theirs.is_empty() && !others.is_empty() {
        return Err("--picker needs a --picker-config to run with".into());
    }
    let mut all: Vec<Contender> = configs
        .iter()
        .map(|config| Contender {
            name: stem(config),
            router: Router::Epp { config: Some(config.clone()) },
        })
        .collect();
    if configs.is_empty() {
        all.push(Contender { name: "epp".into(), router: Router::Epp { config: None } });
    }
    for OtherPicker { name, binary } in others {
        all.extend(theirs.iter().map(|config| Contender {
            name: format!("{name}: {}", stem(config)),
            router: Router::Other { binary: binary.clone(), config: config.clone() },
        }));
    }
    all.extend(baselines.iter().map(|&balancing| Contender {
        name: balancing.name().to_owned(),
        router: Router::Envoy(balancing),
    }));
    for (i, contender) in all.iter().enumerate() {
        if all[..i].iter().any(|before| before.name == contender.name) {
            return Err(format!("two of what is compared are called {}", contender.name));
        }
    }
    Ok(all)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(
        configs: &[&str],
        others: &[&str],
        baselines: &[Balancing],
    ) -> Result<Vec<String>, String> {
        let configs: Vec<PathBuf> = configs.iter().map(PathBuf::from).collect();
        let others: Vec<OtherPicker> = others
            .iter()
            .map(|name| OtherPicker { name: (*name).to_owned(), binary: "b".into() })
            .collect();
        let all = contenders(&configs, (&others, &configs), baselines)?;
        Ok(all.into_iter().map(|c| c.name).collect())
    }

    #[test]
    fn every_picker_runs_with_every_configuration() {
        let found = names(&["c/a.yaml", "b.yaml"], &["ref"], &[Balancing::RoundRobin]).unwrap();
        assert_eq!(found, ["a", "b", "ref: a", "ref: b", "round robin"]);
        assert_eq!(names(&[], &[], &[]).unwrap(), ["epp"]);
    }

    #[test]
    fn what_cannot_be_told_apart_or_started_is_refused() {
        assert!(names(&["x/a.yaml", "y/a.yaml"], &[], &[]).unwrap_err().contains("called a"));
        assert!(names(&[], &["ref"], &[]).unwrap_err().contains("--picker-config"));
        assert!(names(&[], &[], &[Balancing::Random; 2]).unwrap_err().contains("random"));
        assert!(other_picker("ref=/no/such/program").unwrap_err().contains("/no/such/program"));
    }
}
