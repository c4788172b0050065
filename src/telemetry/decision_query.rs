use std::sync::Arc;

use super::cardinality::cut;
use super::{DecisionLog, DecisionRecord};

/// Decisions shown where nobody says how many, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;

/// Which of the decisions kept are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionQuery {
    request_id: Option<String>,
    endpoint: Option<String>,
    model: Option<String>,
    refused: Option<bool>,
    last: usize,
    /// Without every step.
    pub brief: bool,
    /// As text for people, not as JSON.
    pub text: bool,
}

impl Default for DecisionQuery {
    fn default() -> Self {
        Self {
            request_id: None,
            endpoint: None,
            model: None,
            refused: None,
            last: USUAL,
            brief: false,
            text: false,
        }
    }
}

impl DecisionQuery {
    /// Reads the parameters of a page's address, already decoded.
    ///
    /// # Errors
    /// What is wrong with them, without a word of theirs.
    pub fn read<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let mut query = Self::default();
        for (key, value) in parameters {
            let text = || Some(value.to_owned());
            match key {
                "request_id" => query.request_id = text(),
                "endpoint" => query.endpoint = text(),
                "model" => query.model = text(),
                "refused" => query.refused = Some(flag(value).ok_or(FLAGS)?),
                "brief" => query.brief = flag(value).ok_or(FLAGS)?,
                "last" => query.last = number(value)?,
                "format" => query.text = format(value)?,
                _ => return Err(KNOWN.to_owned()),
            }
        }
        Ok(query)
    }

    /// The decisions of the log that are wanted, newest first.
    pub fn of(&self, log: &DecisionLog) -> Vec<Arc<DecisionRecord>> {
        let mut records = log.recent();
        records.retain(|record| self.wants(record));
        records.truncate(self.last);
        records
    }

    fn wants(&self, record: &DecisionRecord) -> bool {
        let is =
            |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        is(&self.request_id, &|id| record.request_id() == cut(id))
            && is(&self.endpoint, &|endpoint| record.went_to(endpoint))
            && is(&self.model, &|model| record.is_for(model))
            && self.refused.is_none_or(|refused| record.is_refused() == refused)
    }
}

const KNOWN: &str = "unknown parameter: there are request_id, endpoint, model, refused, last, \
                     brief and format";
const FLAGS: &str = "refused and brief are true, false or nothing";

/// A parameter that is there without a value is true.
fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn number(value: &str) -> Result<usize, String> {
    // Digits alone may be a number too large for us: then it is as many as there are at most.
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(value.parse().unwrap_or(MOST).min(MOST));
    }
    Err("last is a number of decisions, such as 20".to_owned())
}

fn format(value: &str) -> Result<bool, String> {
    match value {
        "text" => Ok(true),
        "json" => Ok(false),
        _ => Err("format is text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DecisionQuery, String> {
        let pairs = text.split('&').filter(|p| !p.is_empty());
        DecisionQuery::read(pairs.map(|p| p.split_once('=').unwrap_or((p, ""))))
    }

    #[test]
    fn parameters_are_read() {
        let usual = DecisionQuery::default;
        for (text, expected) in [
            ("", Ok(usual())),
            ("last=3", Ok(DecisionQuery { last: 3, ..usual() })),
            ("last=0", Ok(DecisionQuery { last: 0, ..usual() })),
            ("last=99999999999999999999999", Ok(DecisionQuery { last: MOST, ..usual() })),
            ("last=1001", Ok(DecisionQuery { last: MOST, ..usual() })),
            ("last=-1", Err("last is a number of decisions, such as 20")),
            ("last=", Err("last is a number of decisions, such as 20")),
            ("refused", Ok(DecisionQuery { refused: Some(true), ..usual() })),
            ("refused=false", Ok(DecisionQuery { refused: Some(false), ..usual() })),
            ("refused=maybe", Err(FLAGS)),
            ("model=m", Ok(DecisionQuery { model: Some("m".into()), ..usual() })),
            (
                "endpoint=a&request_id=b&format=text&brief",
                Ok(DecisionQuery {
                    endpoint: Some("a".into()),
                    request_id: Some("b".into()),
                    text: true,
                    brief: true,
                    ..usual()
                }),
            ),
            ("format=xml", Err("format is text or json")),
            ("lsat=3", Err(KNOWN)),
        ] {
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
