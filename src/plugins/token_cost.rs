//! What of an exchange's tokens goes into the gateway's metadata, under which key.

use super::Parameter;
use super::tokens_used::TokensUsed;
use crate::config::Fields;

/// An entry, as parameters.
pub(super) const COST: [Parameter; 2] = [
    Parameter::text("metadataKey", "key of the number").required().example("tokens"),
    Parameter::one_of(
        "type",
        &["InputToken", "CachedInputToken", "OutputToken", "TotalToken"],
        "what is counted",
    )
    .required(),
];

/// [`TokenCost::defaults`] as it is written in YAML.
pub(super) const DEFAULTS: &str = "[{metadataKey: llm_input_token, type: InputToken}, \
    {metadataKey: llm_output_token, type: OutputToken}, \
    {metadataKey: llm_total_token, type: TotalToken}, \
    {metadataKey: llm_cached_input_token, type: CachedInputToken}]";

/// An entry of the metadata, as `llmRequestCosts` of Envoy AI Gateway 0.3 has them.
#[derive(Debug)]
pub(super) struct TokenCost {
    pub key: String,
    pub kind: CostKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CostKind {
    Input,
    CachedInput,
    Output,
    Total,
}

const KINDS: [(&str, CostKind); 4] = [
    ("InputToken", CostKind::Input),
    ("CachedInputToken", CostKind::CachedInput),
    ("OutputToken", CostKind::Output),
    ("TotalToken", CostKind::Total),
];

impl TokenCost {
    /// The keys that Envoy AI Gateway's own documentation uses.
    pub(super) fn defaults() -> Vec<Self> {
        let named = |(key, kind): (&str, CostKind)| Self { key: key.to_owned(), kind };
        let keys = [
            ("llm_input_token", CostKind::Input),
            ("llm_output_token", CostKind::Output),
            ("llm_total_token", CostKind::Total),
            ("llm_cached_input_token", CostKind::CachedInput),
        ];
        keys.into_iter().map(named).collect()
    }

    /// Reads a list of `{metadataKey, type}`.
    pub(super) fn read(list: Vec<Fields<'_>>) -> Vec<Self> {
        let mut costs: Vec<Self> = Vec::with_capacity(list.len());
        for mut fields in list {
            let key = fields.string("metadataKey").unwrap_or_default();
            if key.is_empty() {
                fields.error("metadataKey", "must name the key of the number");
            } else if costs.iter().any(|cost| cost.key == key) {
                fields.error("metadataKey", "stands in the list twice");
            }
            let name = fields.string("type");
            let kind = KINDS.iter().find(|(known, _)| name == Some(known)).map(|(_, kind)| *kind);
            if kind.is_none() {
                let known = KINDS.map(|(known, _)| known).join(", ");
                fields.error("type", format!("must be one of {known}"));
            }
            if let Some(kind) = kind {
                costs.push(Self { key: key.to_owned(), kind });
            }
            fields.finish();
        }
        costs
    }
}

impl CostKind {
    /// Tokens of this kind.
    pub(super) fn of(self, used: &TokensUsed) -> f64 {
        let tokens = match self {
            Self::Input => used.input,
            Self::CachedInput => used.cached_input,
            Self::Output => used.output,
            Self::Total => used.total(),
        };
        tokens as f64
    }
}
