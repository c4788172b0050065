use std::time::Duration;

use serde::Serialize;

/// Why a request went where it went, or why it went nowhere: every step of every profile, for
/// logs and the admin page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// `ip:port` of every candidate; the other lists are by this order.
    pub candidates: Vec<String>,
    /// Requests that were in flight to each candidate when the request was looked at.
    pub in_flight: Vec<i64>,
    pub seen: SeenStep,
    /// What each producer believed of the prompt.
    pub prefixes: Vec<PrefixStep>,
    /// Endpoints of the pool, of which the gateway may allow some alone; 0 where not known.
    #[serde(rename = "poolSize")]
    pub pool_size: usize,
    /// `ip:port` of those that a screener took out before anything else.
    #[serde(rename = "screenedOut", skip_serializing_if = "Vec::is_empty")]
    pub screened_out: Vec<String>,
    pub profiles: Vec<ProfileExplanation>,
    /// What the health of endpoints had to do with it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStep>,
}

/// What else each candidate looked like at that moment.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenStep {
    /// Tokens we had sent there that had not been worked on.
    pub in_flight_tokens: Vec<u64>,
    /// Requests waiting and running there, and the share of its KV cache in use, as it had last
    /// told.
    pub waiting: Vec<u64>,
    pub running: Vec<u64>,
    pub kv_cache_usage: Vec<f64>,
}

/// How much of the prompt each candidate was believed to hold.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixStep {
    /// `predicted` from our own picks, or `indexed` from what engines tell.
    pub source: &'static str,
    /// Blocks by candidate.
    pub blocks: Vec<u32>,
    pub prompt_blocks: u32,
    pub block_tokens: u32,
}

/// Endpoints that were no candidates because of their health.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthStep {
    /// `ip:port` of the endpoint that this request was to try: the only candidate then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// The configuration could not place the request with those left, so all were candidates.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_the_same: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// `ip:port`.
    pub endpoint: String,
    /// Where it stands: ejected, say.
    pub standing: &'static str,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct ProfileExplanation {
    pub name: String,
    pub filters: Vec<FilterStep>,
    pub scorers: Vec<ScorerStep>,
    /// Weighted sums, `null` for candidates that were filtered out.
    pub totals: Vec<Option<f64>>,
    /// Candidate indices in picker order.
    pub picks: Vec<u32>,
    pub picker: PickerStep,
    /// When its steps ended, where that was measured.
    #[serde(skip)]
    pub times: Option<StepTimes>,
}

/// When the steps of a profile ended, since the scheduler was asked.
#[derive(Clone, Debug, Default)]
pub struct StepTimes {
    /// The first step began.
    pub began: Duration,
    /// All filters had run.
    pub filtered: Duration,
    /// Each scorer had.
    pub scored: Vec<Duration>,
    pub picked: Duration,
}

#[derive(Clone, Debug, Serialize)]
pub struct FilterStep {
    pub plugin: String,
    /// Candidate indices that passed.
    pub kept: Vec<u32>,
    /// Candidate indices that did not.
    pub dropped: Vec<u32>,
    /// What an endpoint has to be to pass.
    pub wants: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct ScorerStep {
    pub plugin: String,
    /// Its type, where calls of plugins are measured, else its name.
    #[serde(skip)]
    pub plugin_type: String,
    pub weight: f64,
    /// Scores before weighting, `null` for candidates that were filtered out.
    pub scores: Vec<Option<f64>>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PickerStep {
    pub plugin: String,
    /// Candidate indices whose total is the target's; empty where there is no other.
    pub tied: Vec<u32>,
    /// What decides between those.
    pub tie_rule: &'static str,
}
