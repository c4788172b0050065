//! `epp migrate`: a configuration of any version rewritten in today's form, where that decides the
//! same. Edits are made in the text, at the places that the parser gives, so that comments stay.
//!
//! [`migrate`] applies one rule after the other ([`envelope`], [`types`], [`parameters`],
//! [`disaggregation`], [`precise`], [`trees`]), each to the text that the last one left, until none
//! has anything to do; what then is still of an older version is told, with the reason
//! ([`left`]).

mod disaggregation;
mod edit;
mod envelope;
mod left;
mod parameters;
mod pipeline;
mod precise;
mod source;
mod trees;
mod types;

use edit::Edit;
use pipeline::Pipeline;
use source::{Source, Unreadable};

/// A configuration in today's form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    pub text: String,
    /// What was changed, and why.
    pub changes: Vec<String>,
    /// What is of an older version and was left, and why.
    pub left: Vec<String>,
}

/// One change: what to edit, and what to tell.
#[derive(Debug, Default)]
struct Step {
    edits: Vec<Edit>,
    what: String,
}

impl Step {
    /// `None` where an edit cannot be made.
    fn new(what: impl Into<String>, edits: impl IntoIterator<Item = Option<Edit>>) -> Option<Self> {
        let edits = edits.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Self { edits, what: what.into() })
    }
}

/// Finds something to change.
type Rule = fn(&Source<'_>, &Pipeline<'_>) -> Option<Step>;

/// In this order: what later ones look for has been brought to its name of today by earlier ones.
const RULES: [Rule; 18] = [
    envelope::api_version,
    envelope::kind,
    envelope::gate,
    envelope::data,
    envelope::parser,
    envelope::detector,
    envelope::thresholds,
    types::renamed,
    parameters::spelling,
    parameters::dropped,
    parameters::renamed,
    parameters::mode,
    disaggregation::flat,
    disaggregation::pd_handler,
    disaggregation::headers_handler,
    precise::scorer,
    types::by_label,
    trees::chain,
];

/// No configuration needs so many steps.
const MAX_STEPS: usize = 10_000;

/// Rewrites a configuration.
///
/// # Errors
/// What is no YAML, or has anchors, whose text stands for several places.
pub fn migrate(text: &str) -> Result<Migrated, String> {
    let mut migrated = Migrated { text: text.to_owned(), ..Migrated::default() };
    for _ in 0..MAX_STEPS {
        let source = Source::read(&migrated.text).map_err(told)?;
        let pipeline = Pipeline::of(&source.root);
        let Some(step) = RULES.iter().find_map(|rule| rule(&source, &pipeline)) else {
            migrated.left = left::left(&pipeline);
            return Ok(migrated);
        };
        let text = edit::apply(&migrated.text, step.edits);
        migrated.changes.push(step.what);
        migrated.text = text;
    }
    Err("could not be brought to an end".to_owned())
}

fn told(unreadable: Unreadable) -> String {
    match unreadable {
        Unreadable::Broken(line, message) => format!("line {line}: {message}"),
        Unreadable::Anchors => {
            "anchors and aliases stand for several places: write them out first".to_owned()
        }
        Unreadable::Empty => "has no document".to_owned(),
    }
}
