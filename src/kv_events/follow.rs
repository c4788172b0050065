use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::tracked::Tracked;
use crate::endpoints::{Endpoint, Pool};
use crate::scheduling::{BoxFuture, Runtime};

/// How the publishers of a pool's endpoints are found.
#[derive(Clone, Debug)]
pub enum Publishers {
    /// Every endpoint publishes at a port of its own address; its data-parallel rank is added.
    AtEndpoints { port: u16, replay_port: Option<u16> },
    /// Endpoints connect to this address of ours.
    ConnectTo(SocketAddr),
}

/// Where a plugin has the events of engines from, and what it expects of them.
#[derive(Clone, Debug)]
pub struct FollowPlan {
    /// The plugin's name.
    pub plugin: String,
    pub publishers: Publishers,
    /// Topics are expected to begin with this.
    pub topic_filter: Arc<str>,
    /// Tokens per block while no engine has said how many it has.
    pub block_tokens: u32,
}

/// Finds what is tracked of an endpoint, made when first asked for.
pub type Track = dyn Fn(&Endpoint) -> Option<&Tracked> + Send + Sync;

/// Whose events are to be followed, and where they go.
#[derive(Clone)]
pub struct Follow {
    pub pool: Arc<Pool>,
    pub publishers: Publishers,
    /// Topics are expected to begin with this.
    pub topic_filter: Arc<str>,
    pub track: Arc<Track>,
    pub runtime: Arc<dyn Runtime>,
}

/// Follows the events of engines over sockets.
pub trait FollowEvents: fmt::Debug + Send + Sync {
    /// Follows the endpoints of a pool, those that come later too, for as long as the future is
    /// polled.
    fn follow(&self, follow: Follow) -> BoxFuture<()>;
}
