use std::fmt;

use super::Unit;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    Tokens,
    Requests,
}

/// How much of something may be used in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub measure: Measure,
    /// At least 1.
    pub amount: u64,
    pub unit: Unit,
}

/// For example `1000 tokens per hour`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measure = match self.measure {
            Measure::Tokens => "tokens",
            Measure::Requests => "requests",
        };
        write!(f, "{} {measure} per {}", self.amount, self.unit.as_str().to_ascii_lowercase())
    }
}
