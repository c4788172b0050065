use serde::Serialize;

/// Why a request went where it went, or why it went nowhere: every step of every profile, for
/// logs and the admin page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// `ip:port` of every candidate; the other lists are by this order.
    pub candidates: Vec<String>,
    /// Requests that were in flight to each candidate when the request was looked at.
    pub in_flight: Vec<i64>,
    pub profiles: Vec<ProfileExplanation>,
    /// What the health of endpoints had to do with it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStep>,
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
}

#[derive(Clone, Debug, Serialize)]
pub struct FilterStep {
    pub plugin: String,
    /// Candidate indices that passed.
    pub kept: Vec<u32>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ScorerStep {
    pub plugin: String,
    pub weight: f64,
    /// Scores before weighting, `null` for candidates that were filtered out.
    pub scores: Vec<Option<f64>>,
}
