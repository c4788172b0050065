//! A running `epp`, asked over its metrics port: `epp explain` and `epp top`.

mod client;
mod explain;
#[cfg(feature = "top")]
mod screen;
mod table;
#[cfg(feature = "top")]
mod top;

use std::time::Duration;

pub use client::{AdminAccess, AdminClient, AskError};
pub use explain::explain;
pub use table::{Column, Pool};
#[cfg(feature = "top")]
pub use top::run as top;

/// What `epp explain` is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainOptions {
    pub access: AdminAccess,
    /// `x-request-id` of the request.
    pub id: String,
    /// As JSON, not as text.
    pub json: bool,
}

/// How `epp top` is to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopOptions {
    pub access: AdminAccess,
    /// A plain table, and the end.
    pub once: bool,
    /// Time between two looks.
    pub interval: Duration,
    /// The column that the endpoints are sorted by at first.
    pub sort: Column,
}

/// The endpoints of a running `epp` as a plain table.
///
/// # Errors
/// Why it does not say.
pub async fn top_once(options: &TopOptions) -> Result<String, AskError> {
    let client = AdminClient::new(&options.access)?;
    let pool = Pool::read(&client.json("/debug/state").await?);
    Ok(pool.plain(options.sort))
}
