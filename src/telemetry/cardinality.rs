use std::collections::HashSet;

use parking_lot::RwLock;

/// What stands for every name beyond the limit.
pub(super) const OTHER: &str = "other";

/// Bytes of a name in labels and log lines; what is longer is cut. The longest names of models
/// that hubs have are shorter.
const MAX_NAME: usize = 128;

/// The name as it stands in labels and log lines.
pub(super) fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

/// Limits how many distinct values a label takes, since clients choose model names and fairness
/// ids: the first `limit` are kept, the rest become [`OTHER`]. Names that answers have proven to
/// be real have as much room of their own, which invented ones cannot take.
#[derive(Debug)]
pub(super) struct CardinalityLimiter {
    limit: usize,
    names: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    seen: HashSet<String>,
    proven: HashSet<String>,
    always: HashSet<String>,
}

impl Names {
    fn has(&self, name: &str) -> bool {
        self.seen.contains(name) || self.is_real(name)
    }

    fn is_real(&self, name: &str) -> bool {
        self.always.contains(name) || self.proven.contains(name)
    }
}

impl CardinalityLimiter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, names: RwLock::default() }
    }

    /// The label value for `name`. The empty name stands for itself.
    pub(super) fn admit<'a>(&self, name: &'a str) -> &'a str {
        if name.is_empty() {
            return name;
        }
        {
            let names = self.names.read();
            if names.has(name) {
                return name;
            }
            if names.seen.len() >= self.limit {
                return OTHER;
            }
        }
        let mut names = self.names.write();
        if names.seen.len() >= self.limit && !names.has(name) {
            return OTHER;
        }
        names.seen.insert(name.to_owned());
        name
    }

    /// An endpoint answered to this name.
    pub(super) fn prove(&self, name: &str) {
        let is_known = |names: &Names| names.is_real(name) || names.proven.len() >= self.limit;
        if name.is_empty() || is_known(&self.names.read()) {
            return;
        }
        let mut names = self.names.write();
        if !is_known(&names) {
            names.proven.insert(name.to_owned());
        }
    }

    /// An operator wrote the name down, or an endpoint answered to it.
    pub(super) fn is_real(&self, name: &str) -> bool {
        self.names.read().is_real(name)
    }

    /// Replaces the names that are kept whatever the limit: those an operator wrote down.
    pub(super) fn always_keep(&self, names: impl IntoIterator<Item = String>) {
        self.names.write().always = names.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_only_known_and_configured_names_stay() {
        let guard = CardinalityLimiter::new(2);
        guard.always_keep(["configured".to_owned()]);
        for (name, label) in [
            ("a", "a"),
            ("", ""),
            ("b", "b"),
            ("c", "other"),
            ("a", "a"),
            ("configured", "configured"),
            ("d", "other"),
        ] {
            assert_eq!(guard.admit(name), label, "{name}");
        }
    }

    #[test]
    fn real_names_are_not_pushed_out_by_invented_ones() {
        let guard = CardinalityLimiter::new(2);
        for invented in ["x", "y", "z"] {
            guard.admit(invented);
        }
        assert_eq!(guard.admit("real"), "other");
        for name in ["real", "real", "two", "three"] {
            guard.prove(name);
        }
        assert_eq!(
            ["real", "two", "three", "z"].map(|n| guard.admit(n)),
            ["real", "two", "other", "other"]
        );
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"a".repeat(1_000_000)).len(), 128);
        assert_eq!(cut(&format!("a{}", "\u{e4}".repeat(100))).len(), 127);
    }
}
