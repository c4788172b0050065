//! What the API server is asked for besides endpoints: a lease ([`LeaderElection`]) and who may
//! read the metrics port ([`ApiServerAuth`]); and the client for all of it.

mod api_server_auth;
mod client;
mod error;
mod leader;
mod reasons;

pub use api_server_auth::ApiServerAuth;
pub use client::connect;
pub use error::ConnectError;
pub use leader::{LeaderElection, LeaderOptions, lease_name};
pub(crate) use reasons::{is_missing, reason};
