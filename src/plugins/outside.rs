use std::fmt;
use std::sync::Arc;

use crate::kv_events::FollowEvents;
use crate::quota::OpenSharedCounters;
use crate::tokens::RenderPrompts;

/// What plugins need of the world outside, which they do not open sockets to themselves.
#[derive(Clone, Debug)]
pub struct Outside {
    pub events: Arc<dyn FollowEvents>,
    pub renderer: Arc<dyn RenderPrompts>,
    pub quotas: Arc<dyn OpenSharedCounters>,
}

/// A plugin that reaches outside. Without, it works with what it has.
pub trait ReachOutside: fmt::Debug + Send + Sync {
    /// Called once, before the plugin is started.
    fn reach(&self, outside: &Outside);
}
