//! Which requests a rule of `token-quota` is for, and what it grants them.

use super::Parameter;
use crate::config::Fields;
use crate::error::RequestError;
use crate::quota::{Limit, Measure, Unit};
use crate::scheduling::InferenceRequest;

/// Bytes of a header's or a model's name, and of a value that a rule names or tells apart. A
/// longer one cannot be what it is said to be, and would have to be remembered.
const MAX_TEXT: usize = 256;
/// The largest amount, so that sums stay far from where they would not fit.
const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// One rule, as parameters.
pub(super) const RULE: [Parameter; 5] = [
    Parameter::text("name", "its name, by which its metrics go; without one its place"),
    Parameter::each("headers", &HEADER, "request headers that have to match, all of them")
        .example("[{name: x-user-id, type: Distinct}]"),
    Parameter::fields("model", &MODEL, "what the model has to be, after any rewrite")
        .example("{type: Distinct}"),
    Parameter::fields("priority", &PRIORITY, "what the request's priority has to be"),
    Parameter::each("limits", &LIMIT, "what is granted; all of them hold").required(),
];

const HEADER: [Parameter; 3] =
    [Parameter::text("name", "the header").required().example("x-user-id"), MODEL[0], MODEL[1]];

const MODEL: [Parameter; 2] = [
    Parameter::one_of(
        "type",
        &["Exact", "Distinct"],
        "this value, or any, each with limits of its own",
    )
    .default("Exact")
    .beside("{value: null}"),
    Parameter::text("value", "the value, with Exact").required().example("free"),
];

const PRIORITY: [Parameter; 2] = [
    Parameter::integer("min", "the lowest").at_least(-2_147_483_648.0).at_most(2_147_483_647.0),
    Parameter::integer("max", "the highest").at_least(-2_147_483_648.0).at_most(2_147_483_647.0),
];

const LIMIT: [Parameter; 3] = [
    Parameter::integer("tokens", "tokens in a window; either this")
        .unit("tokens")
        .required()
        .at_least(1.0)
        .at_most(1e15),
    Parameter::integer("requests", "or requests")
        .unit("requests")
        .beside("{tokens: null}")
        .at_least(1.0)
        .at_most(1e15),
    Parameter::one_of(
        "unit",
        &["Second", "Minute", "Hour", "Day", "Month"],
        "the window; it begins where the clock and the calendar do, in UTC",
    )
    .required(),
];

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub name: String,
    selector: Selector,
    pub limits: Vec<Limit>,
}

/// The requests that a rule is for: those that match all of it.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    /// By name, in lower case; sorted.
    headers: Vec<(String, Match)>,
    model: Option<Match>,
    /// The lowest and the highest.
    priority: (i32, i32),
}

/// What a header or the model has to be, as `clientSelectors` of Envoy Gateway's
/// `BackendTrafficPolicy` have it.
#[derive(Debug, PartialEq, Eq)]
enum Match {
    /// This value.
    Exact(String),
    /// Any value; each has limits of its own.
    Distinct,
}

/// Reads the list of rules.
pub(super) fn read(p: &mut Fields<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    if p.list("rules").is_none_or(<[_]>::is_empty) {
        p.error("rules", "must have at least one rule");
    }
    for (i, mut fields) in p.each("rules").into_iter().enumerate() {
        let name = fields.string("name").filter(|name| !name.is_empty());
        let name = name.map_or_else(|| format!("rules[{i}]"), str::to_owned);
        if rules.iter().any(|rule| rule.name == name) {
            fields.error("name", format!("another rule is called '{name}'"));
        }
        let selector = Selector::read(&mut fields);
        if let Some(other) = rules.iter().find(|rule| rule.selector == selector) {
            let message = format!(
                "is for the same requests as rule '{}': write the limits of both into one",
                other.name
            );
            fields.diagnostics().error(fields.at(), fields.path(), message);
        }
        let limits = limits(&mut fields);
        fields.finish();
        rules.push(Rule { name, selector, limits });
    }
    rules
}

impl Selector {
    fn read(fields: &mut Fields<'_>) -> Self {
        let mut headers: Vec<(String, Match)> = Vec::new();
        for mut header in fields.each("headers") {
            let name = header.string("name").unwrap_or_default().to_ascii_lowercase();
            if name.is_empty()
                || name.len() > MAX_TEXT
                || !name.bytes().all(|b| b.is_ascii_graphic())
            {
                header
                    .error("name", format!("must name a header, of at most {MAX_TEXT} characters"));
            } else if headers.iter().any(|(known, _)| *known == name) {
                header.error("name", "stands in this rule twice");
            }
            let wanted = Match::read(&mut header);
            header.finish();
            headers.push((name, wanted));
        }
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        let mut model = fields.nested("model");
        let wanted = (!model.is_absent()).then(|| Match::read(&mut model));
        model.finish();
        let mut priority = fields.nested("priority");
        let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
        let mut bound = |name, default: i32| {
            let given = priority.int_in(name, range.clone());
            given.and_then(|given| i32::try_from(given).ok()).unwrap_or(default)
        };
        let (min, max) = (bound("min", i32::MIN), bound("max", i32::MAX));
        if min > max {
            priority.error("max", format!("must be at least min, which is {min}"));
        }
        priority.finish();
        Self { headers, model: wanted, priority: (min, max) }
    }

    /// The tenant that a request is of, as the values that it is told apart by; `None` where the
    /// rule is not for it.
    ///
    /// # Errors
    /// 400 where a value that tells tenants apart cannot be one.
    fn tenant<'r>(
        &self,
        request: &'r InferenceRequest,
    ) -> Result<Option<Vec<&'r str>>, RequestError> {
        let (min, max) = self.priority;
        if !(min..=max).contains(&request.priority) {
            return Ok(None);
        }
        let mut values = Vec::new();
        for (name, wanted) in &self.headers {
            let Some(raw) = request.headers.get_raw(name) else { return Ok(None) };
            match wanted {
                Match::Exact(value) if value.as_bytes() == &raw[..] => {}
                Match::Exact(_) => return Ok(None),
                Match::Distinct if raw.is_empty() => return Ok(None),
                Match::Distinct => {
                    let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= MAX_TEXT);
                    values.push(text.ok_or_else(|| unfit(name))?);
                }
            }
        }
        match &self.model {
            None => {}
            Some(Match::Exact(model)) if *model == request.target_model => {}
            Some(Match::Exact(_)) => return Ok(None),
            Some(Match::Distinct) if request.target_model.len() > MAX_TEXT => {
                return Err(unfit("model"));
            }
            Some(Match::Distinct) => values.push(&request.target_model),
        }
        Ok(Some(values))
    }
}

fn unfit(name: &str) -> RequestError {
    RequestError::bad_request(format!(
        "{name} tells whose request this is: it must be text of at most {MAX_TEXT} bytes"
    ))
}

impl Match {
    /// Reads `type` and `value`.
    fn read(fields: &mut Fields<'_>) -> Self {
        let kind = fields.string("type").unwrap_or("Exact");
        let value = fields.string("value");
        if kind.eq_ignore_ascii_case("Distinct") {
            if value.is_some() {
                fields.error("value", "has no meaning: every value has limits of its own");
            }
            return Self::Distinct;
        }
        if !kind.eq_ignore_ascii_case("Exact") {
            fields.error("type", "must be Exact or Distinct");
        }
        let value = value.unwrap_or_default();
        if value.is_empty() || value.len() > MAX_TEXT {
            fields.error("value", format!("must be a text of 1 to {MAX_TEXT} bytes"));
        }
        Self::Exact(value.to_owned())
    }
}

/// Reads the limits of a rule.
fn limits(fields: &mut Fields<'_>) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    if fields.list("limits").is_none_or(<[_]>::is_empty) {
        fields.error("limits", "must have at least one limit");
    }
    for mut one in fields.each("limits") {
        let (tokens, requests) = (one.node("tokens").is_some(), one.node("requests").is_some());
        let (name, measure) = match (tokens, requests) {
            (true, false) => ("tokens", Measure::Tokens),
            (false, true) => ("requests", Measure::Requests),
            _ => {
                let message = "must have either tokens or requests";
                one.diagnostics().error(one.at(), one.path(), message);
                one.ignore_rest();
                continue;
            }
        };
        let amount = one.int_in(name, 1..=MAX_AMOUNT);
        let unit = Unit::named(one.string("unit").unwrap_or_default());
        if unit.is_none() {
            one.error("unit", "must be Second, Minute, Hour, Day or Month");
        }
        if let (Some(amount), Some(unit)) = (amount, unit) {
            let amount = amount.unsigned_abs();
            let same = |limit: &&Limit| (limit.measure, limit.unit) == (measure, unit);
            if let Some(other) = limits.iter().find(same) {
                let message = format!("clashes with another limit of this rule: {other}");
                one.error(name, message);
            }
            limits.push(Limit { measure, amount, unit });
        }
        one.finish();
    }
    limits
}

impl Rule {
    /// What the tenant of `request` is remembered under; `None` where the rule is not for it.
    ///
    /// # Errors
    /// As [`Selector::tenant`].
    pub(super) fn key(&self, request: &InferenceRequest) -> Result<Option<String>, RequestError> {
        let Some(values) = self.selector.tenant(request)? else { return Ok(None) };
        let mut key = String::with_capacity(64);
        for text in std::iter::once(self.name.as_str()).chain(values) {
            // With its length before it no two lists of texts make one key.
            key.push_str(&text.len().to_string());
            key.push(':');
            key.push_str(text);
        }
        Ok(Some(key))
    }
}
