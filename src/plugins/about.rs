use super::Parameter;

/// What a plugin type is for, written beside the type: `epp plugins`, the tables of
/// `docs/plugins.md` and the JSON Schema are made of it. A test holds it against the type's
/// reader.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The parts it plays for who configures it; the first is the one it is listed under.
    pub parts: &'static [Part],
    pub stability: Stability,
    /// The first release that has it: of the Gateway API Inference Extension (GIE) or of llm-d's
    /// router; empty for a type of our own.
    pub since: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// How its result is worked out; empty where the summary says it all.
    pub formula: &'static str,
    pub parameters: Parameters,
}

/// Which parameters a type takes.
#[derive(Clone, Copy, Debug)]
pub enum Parameters {
    /// None, and whatever it is given is left alone, with a warning.
    Ignored,
    /// These and no others.
    Listed(&'static [Parameter]),
}

impl Parameters {
    pub fn listed(self) -> &'static [Parameter] {
        match self {
            Self::Ignored => &[],
            Self::Listed(parameters) => parameters,
        }
    }
}

/// What a plugin is, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Scorer,
    Filter,
    Picker,
    ProfileHandler,
    Decider,
    RequestProcessor,
    /// Tells the chosen endpoints of others, in request headers, beside a profile handler.
    HeaderHandler,
    Producer,
    Admitter,
    Screener,
    ResponsePlugin,
    SaturationDetector,
    FairnessPolicy,
    OrderingPolicy,
    UsageLimitPolicy,
    EvictionPolicy,
    DataSource,
    Extractor,
    Discovery,
    Parser,
}

impl Part {
    /// All there are, in the order of lists.
    pub const ALL: [Self; 20] = [
        Self::Scorer,
        Self::Filter,
        Self::Picker,
        Self::ProfileHandler,
        Self::Decider,
        Self::RequestProcessor,
        Self::HeaderHandler,
        Self::Producer,
        Self::Admitter,
        Self::Screener,
        Self::ResponsePlugin,
        Self::SaturationDetector,
        Self::FairnessPolicy,
        Self::OrderingPolicy,
        Self::UsageLimitPolicy,
        Self::EvictionPolicy,
        Self::DataSource,
        Self::Extractor,
        Self::Discovery,
        Self::Parser,
    ];

    /// As it stands in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scorer => "scorer",
            Self::Filter => "filter",
            Self::Picker => "picker",
            Self::ProfileHandler => "profile handler",
            Self::Decider => "disaggregation decider",
            Self::RequestProcessor => "request processor",
            Self::HeaderHandler => "header handler",
            Self::Producer => "producer",
            Self::Admitter => "admitter",
            Self::Screener => "screener",
            Self::ResponsePlugin => "response plugin",
            Self::SaturationDetector => "saturation detector",
            Self::FairnessPolicy => "fairness policy",
            Self::OrderingPolicy => "ordering policy",
            Self::UsageLimitPolicy => "usage limit policy",
            Self::EvictionPolicy => "eviction policy",
            Self::DataSource => "data source",
            Self::Extractor => "extractor",
            Self::Discovery => "discovery",
            Self::Parser => "parser",
        }
    }
}

/// How far a type can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// The reference calls it beta, and calls nothing more.
    Beta,
    /// The reference calls it alpha: it wants `--allow-experimental-plugins`.
    Experimental,
    /// The reference is about to remove it; this takes its place.
    Deprecated(&'static str),
    /// The reference has removed it; this takes its place, if anything does.
    Removed(&'static str),
    /// A type of our own.
    Own,
}

impl Stability {
    /// As it stands in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Beta => "beta",
            Self::Experimental => "experimental",
            Self::Deprecated(_) => "deprecated",
            Self::Removed(_) => "older versions",
            Self::Own => "ours",
        }
    }

    /// What takes its place, if it is on its way out.
    pub fn successor(self) -> Option<&'static str> {
        match self {
            Self::Deprecated(name) | Self::Removed(name) if !name.is_empty() => Some(name),
            _ => None,
        }
    }
}
