use crate::endpoints::Labels;

/// The label that tells an endpoint's role in disaggregated serving.
const ROLE_LABEL: &str = "llm-d.ai/role";

/// Which stages of serving an endpoint has a part in, as far as saturation goes. The roles of
/// llm-d-router main at ebab6879.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Prefill,
    Both,
    Decode,
    /// Encodes only, or has a role that nobody knows: it counts for neither.
    Neither,
}

impl Stage {
    pub(super) fn of(labels: &Labels) -> Self {
        match labels.get(ROLE_LABEL).map(String::as_str) {
            Some("prefill" | "encode-prefill") => Self::Prefill,
            Some("prefill-decode" | "both" | "encode-prefill-decode") => Self::Both,
            Some("decode") | None => Self::Decode,
            Some(_) => Self::Neither,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_by_role() {
        for (role, expected) in [
            (None, Stage::Decode),
            (Some("decode"), Stage::Decode),
            (Some("prefill"), Stage::Prefill),
            (Some("encode-prefill"), Stage::Prefill),
            (Some("prefill-decode"), Stage::Both),
            (Some("both"), Stage::Both),
            (Some("encode-prefill-decode"), Stage::Both),
            (Some("encode"), Stage::Neither),
            (Some("Decode"), Stage::Neither),
            (Some(""), Stage::Neither),
        ] {
            let labels: Labels =
                role.iter().map(|r| (ROLE_LABEL.to_owned(), (*r).to_owned())).collect();
            assert_eq!(Stage::of(&labels), expected, "{role:?}");
        }
    }
}
