//! What a replay compares: configurations and baselines, each with its variants.

use std::path::PathBuf;
use std::sync::Arc;

use super::ReplayArgs;
use super::pipeline::Around;
use super::policy::{Baseline, Policy};
use crate::endpoints::Pool;
use crate::loader::{self, LoadOptions, Pipeline};
use crate::prefix::HashKey;
use crate::recording::config_mark;

/// Something that decides where requests go.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    pub name: String,
    kind: ContestantKind,
    /// Prompts and answers are for different workers.
    pub divided: bool,
    /// Endpoints are judged by what comes of the requests they get.
    pub health: bool,
    /// What a recording calls its configuration; empty for a baseline.
    pub mark: String,
}

#[derive(Clone, Debug)]
enum ContestantKind {
    Baseline(Baseline),
    Config { file: String, text: Option<String> },
}

impl Contestant {
    /// A fresh policy, with nothing learnt.
    ///
    /// # Errors
    /// Where the configuration cannot be used, with a text for the user.
    pub(super) fn policy(&self, around: Around<'_>) -> Result<Policy, String> {
        match &self.kind {
            ContestantKind::Baseline(baseline) => Ok(Policy::baseline(*baseline, around.seed)),
            ContestantKind::Config { file, text } => {
                let pipeline = pipeline(file, text.as_deref(), &around.pool)?;
                Ok(Policy::pipeline(pipeline, around))
            }
        }
    }

    /// # Errors
    /// Where its configuration cannot be loaded.
    fn with_mark(mut self) -> Result<Self, String> {
        if let ContestantKind::Config { file, text } = &self.kind {
            let pipeline = pipeline(file, text.as_deref(), &Pool::new())?;
            let effective = pipeline.effective.to_yaml().map_err(|e| e.to_string())?;
            self.mark = config_mark(&effective);
        }
        Ok(self)
    }
}

fn pipeline(file: &str, text: Option<&str>, pool: &Pool) -> Result<Pipeline, String> {
    let options = LoadOptions {
        allow_experimental_plugins: true,
        hash_key: HashKey::PUBLIC,
        ..Default::default()
    };
    let (pipeline, diagnostics) = loader::load(file, text, &options, pool.ids());
    pipeline.ok_or_else(|| diagnostics.to_string())
}

/// # Errors
/// Where a configuration cannot be used, with a text for the user.
pub(super) fn contestants(args: &ReplayArgs) -> Result<Vec<Contestant>, String> {
    let mut all = Vec::new();
    for given in &args.config {
        let (name, file) = match given.split_once('=') {
            Some((name, file)) => (name.to_owned(), file),
            None => {
                let stem = PathBuf::from(given);
                let stem = stem.file_stem().map_or(given.clone(), |s| s.to_string_lossy().into());
                (stem, given.as_str())
            }
        };
        let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {file}: {e}"))?;
        let kind = ContestantKind::Config { file: file.to_owned(), text: Some(text) };
        let mark = String::new();
        all.push(Contestant { name, kind, divided: false, health: false, mark }.with_mark()?);
    }
    if args.config.is_empty() {
        let kind = ContestantKind::Config { file: "the default configuration".into(), text: None };
        let (name, mark) = ("default".to_owned(), String::new());
        all.push(Contestant { name, kind, divided: false, health: false, mark }.with_mark()?);
    }
    let healths = args.healths();
    let judged = |c: Contestant| {
        healths.iter().map(move |&health| Contestant {
            // Where nothing else is asked for, nothing needs to be said.
            name: match healths.len() > 1 && !health {
                true => format!("{}, no health", c.name),
                false => c.name.clone(),
            },
            health,
            ..c.clone()
        })
    };
    all = all.into_iter().flat_map(judged).collect();
    if !args.no_baselines {
        all.extend(args.baselines.iter().map(|&b| Contestant {
            name: b.name().to_owned(),
            kind: ContestantKind::Baseline(b),
            divided: false,
            health: false,
            mark: String::new(),
        }));
    }
    if args.fleet.divided().is_some() {
        let divided = |c: &Contestant| Contestant {
            name: format!("{}, divided", c.name),
            divided: true,
            ..c.clone()
        };
        all = all.into_iter().flat_map(|c| [divided(&c), c]).collect();
    }
    // What cannot be loaded is told before anything runs.
    for contestant in &all {
        contestant.policy(Around {
            pool: Arc::new(Pool::new()),
            seed: 0,
            health: false,
            metrics_interval: args.fleet.metrics_interval,
            priorities: &[],
        })?;
    }
    Ok(all)
}
