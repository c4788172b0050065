use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::configuration::ConfigView;
use super::findings::{Finding, Level};
use crate::scheduling::{
    DebugState, MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics,
};

/// Plugins that show their state, with their names.
pub type DebugStates = Vec<(String, Arc<dyn DebugState>)>;

/// A configuration as it is shown.
#[derive(Clone, Debug, Default)]
pub struct ShownConfig {
    pub view: ConfigView,
    /// Of the document's text; for people who compare replicas.
    pub hash: String,
    pub plugins: DebugStates,
    /// Every plugin's name and type.
    pub plugin_types: Vec<(String, &'static str)>,
    /// Fields that the document has otherwise than what is in force: they take a restart.
    pub needs_restart: Vec<&'static str>,
}

/// The configuration in force, and what came of those that were to replace it.
#[derive(Debug)]
pub struct ConfigInForce {
    shown: ArcSwap<ShownConfig>,
    tries: Mutex<Tries>,
    /// Held by everything that works by some configuration, and by every plugin at work.
    configurations: Arc<()>,
    plugins: Arc<()>,
}

#[derive(Clone, Debug, Default)]
struct Tries {
    applied: u64,
    refused: u64,
    /// Seconds since 1970.
    in_force_since: f64,
    /// Why the last one was refused, and when; `None`: it was not.
    refusal: Option<(String, f64)>,
}

impl ConfigInForce {
    pub fn new(shown: ShownConfig) -> Self {
        Self {
            shown: ArcSwap::from_pointee(shown),
            tries: Mutex::new(Tries { in_force_since: unix_now(), ..Tries::default() }),
            configurations: Arc::default(),
            plugins: Arc::default(),
        }
    }

    /// What is in force.
    pub fn shown(&self) -> Arc<ShownConfig> {
        self.shown.load_full()
    }

    /// Another configuration came into force.
    pub fn applied(&self, shown: ShownConfig) {
        self.shown.store(Arc::new(shown));
        let mut tries = self.tries.lock();
        tries.applied += 1;
        tries.in_force_since = unix_now();
        tries.refusal = None;
    }

    /// Another configuration was refused, because of `mistakes`.
    pub fn refused(&self, mistakes: &str) {
        let mut tries = self.tries.lock();
        tries.refused += 1;
        tries.refusal = Some((mistakes.trim_end().to_owned(), unix_now()));
    }

    /// The document is again what is in force.
    pub fn taken_back(&self) {
        self.tries.lock().refusal = None;
    }

    /// Why the document as it is now is not in force; `None`: it is.
    pub fn refusal(&self) -> Option<String> {
        self.tries.lock().refusal.as_ref().map(|(mistakes, _)| mistakes.clone())
    }

    /// To be held for as long as a configuration is at work.
    pub fn count_configuration(&self) -> Arc<()> {
        self.configurations.clone()
    }

    /// To be held for as long as a plugin is at work.
    pub fn count_plugin(&self) -> Arc<()> {
        self.plugins.clone()
    }

    /// Configurations at work: the one in force, and those that exchanges began under.
    pub fn configurations_at_work(&self) -> usize {
        Arc::strong_count(&self.configurations) - 1
    }

    /// Plugins at work, of all these configurations.
    pub fn plugins_at_work(&self) -> usize {
        Arc::strong_count(&self.plugins) - 1
    }

    /// As JSON: the configuration line by line, and what came of reloading it.
    pub fn to_json(&self) -> Value {
        let (shown, tries) = (self.shown(), self.tries.lock().clone());
        let refused = tries.refusal.map(
            |(mistakes, at)| json!({ "mistakes": mistakes.lines().collect::<Vec<_>>(), "at": at }),
        );
        json!({
            "source": shown.view.source,
            "lines": shown.view.lines,
            "hash": shown.hash,
            "inForceSince": tries.in_force_since,
            "reloads": { "applied": tries.applied, "refused": tries.refused },
            "refused": refused,
            "needsRestart": shown.needs_restart,
            "configurationsAtWork": self.configurations_at_work(),
            "pluginsAtWork": self.plugins_at_work(),
        })
    }

    /// What is wrong with the configuration, in words.
    pub fn findings(&self) -> Vec<Finding> {
        let shown = self.shown();
        let file = &shown.view.source;
        let finding = |what: String, why: &str, change: String| Finding {
            level: Level::Warning,
            endpoint: None,
            what,
            why: why.to_owned(),
            change,
        };
        let refused = self.refusal().map(|mistakes| {
            let what = format!("{file} has changed and is refused");
            finding(what, "requests are still decided by what it said before", mistakes)
        });
        let restart = (!shown.needs_restart.is_empty()).then(|| {
            let fields = shown.needs_restart.join(", ");
            finding(
                format!("{file} has changed in what is read at the start alone: {fields}"),
                "the rest of it is in force, this is not",
                "restart epp, or take the change back".to_owned(),
            )
        });
        refused.into_iter().chain(restart).collect()
    }
}

impl PluginMetrics for ConfigInForce {
    fn families(&self) -> Vec<MetricFamily> {
        let (shown, tries) = (self.shown(), self.tries.lock().clone());
        let sample = |labels: Vec<(&'static str, String)>, value: f64| MetricSample {
            labels,
            value: MetricValue::Number(value),
        };
        let family = |name, kind, help, samples| MetricFamily { name, help, kind, samples };
        let gauge = |name, help, value: f64| {
            family(name, MetricKind::Gauge, help, vec![sample(Vec::new(), value)])
        };
        let result =
            |result: &str, count: u64| sample(vec![("result", result.to_owned())], count as f64);
        vec![
            gauge(
                "llm_d_epp_config_last_reload_successful",
                "1: the configuration's file, as it is, is in force; 0: it was refused.",
                f64::from(u8::from(tries.refusal.is_none())),
            ),
            gauge(
                "llm_d_epp_config_last_reload_success_timestamp_seconds",
                "When the configuration in force came into force, seconds since 1970.",
                tries.in_force_since,
            ),
            family(
                "llm_d_epp_config_reloads_total",
                MetricKind::Counter,
                "Configurations that were to replace the one in force, by what came of it.",
                vec![result("applied", tries.applied), result("refused", tries.refused)],
            ),
            family(
                "llm_d_epp_config_info",
                MetricKind::Gauge,
                "The hash of the configuration in force.",
                vec![sample(vec![("hash", shown.hash.clone())], 1.0)],
            ),
            gauge(
                "llm_d_epp_config_needs_restart",
                "Fields of the configuration's file that take a restart to come into force.",
                shown.needs_restart.len() as f64,
            ),
            gauge(
                "llm_d_epp_configs_at_work",
                "The configuration in force, and older ones under which exchanges go on.",
                self.configurations_at_work() as f64,
            ),
        ]
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hash: &str) -> ShownConfig {
        let view = ConfigView { source: "c.yaml".to_owned(), lines: Vec::new() };
        ShownConfig { view, hash: hash.to_owned(), ..ShownConfig::default() }
    }

    fn number(config: &ConfigInForce, name: &str) -> f64 {
        let families = config.families();
        let family = families.iter().find(|family| family.name == name).unwrap();
        match family.samples[0].value {
            MetricValue::Number(number) => number,
            MetricValue::Histogram { .. } => panic!("{name}"),
        }
    }

    #[test]
    fn a_refusal_stands_until_the_file_is_right_or_as_before() {
        let config = ConfigInForce::new(shown("a"));
        let success = "llm_d_epp_config_last_reload_successful";
        assert_eq!((number(&config, success), config.findings()), (1.0, vec![]));
        config.refused("c.yaml:3: plugins[0]: no\n");
        assert_eq!(number(&config, success), 0.0);
        assert_eq!(config.findings()[0].change, "c.yaml:3: plugins[0]: no");
        config.taken_back();
        assert_eq!((number(&config, success), config.findings()), (1.0, vec![]));
        config.refused("worse");
        config.applied(ShownConfig { needs_restart: vec!["dataLayer.discovery"], ..shown("b") });
        assert_eq!((number(&config, success), config.refusal()), (1.0, None));
        let finding = &config.findings()[0];
        assert!(finding.what.ends_with("at the start alone: dataLayer.discovery"), "{finding:?}");
        let json = config.to_json();
        assert_eq!(json["reloads"], json!({ "applied": 1, "refused": 2 }));
        assert_eq!((&json["hash"], &json["refused"]), (&json!("b"), &Value::Null));
    }

    #[test]
    fn what_is_at_work_is_counted_while_it_is_held() {
        let config = ConfigInForce::new(shown("a"));
        let held = (config.count_configuration(), [config.count_plugin(), config.count_plugin()]);
        assert_eq!((config.configurations_at_work(), config.plugins_at_work()), (1, 2));
        drop(held);
        assert_eq!((config.configurations_at_work(), config.plugins_at_work()), (0, 0));
    }
}
