//! The worker's role in disaggregated serving, as its label tells.

use crate::scheduling::{Cycle, Filter};

const ROLE_LABEL: &str = "llm-d.ai/role";

/// Keeps workers of certain roles.
#[derive(Debug)]
pub(super) struct RoleFilter {
    pub roles: &'static [&'static str],
    /// Keep workers without the label too.
    pub unlabelled: bool,
}

impl Filter for RoleFilter {
    fn wants(&self) -> String {
        let or = if self.unlabelled { ", or none" } else { "" };
        format!("label {ROLE_LABEL} of {}{or}", self.roles.join(" or "))
    }

    fn depends_on_load(&self) -> bool {
        false
    }

    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        candidates.retain(|&c| {
            match cycle.candidates[c as usize].endpoint.labels().get(ROLE_LABEL) {
                Some(role) => self.roles.contains(&role.as_str()),
                None => self.unlabelled,
            }
        });
    }
}
