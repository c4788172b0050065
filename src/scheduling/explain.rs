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
