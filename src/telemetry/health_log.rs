use crate::endpoints::Endpoint;
use crate::exchange::HealthListener;
use crate::health::{Change, Standing};

/// One line when an endpoint goes out of service for failing, and one when it is back.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthLog;

impl HealthListener for HealthLog {
    fn changed(&self, endpoint: &Endpoint, change: &Change) {
        let (id, address, reason) = (&endpoint.id, &endpoint.host_port, &change.reason);
        let standing = change.to.as_str();
        match (change.from, change.to) {
            (_, Standing::Ejected) => {
                tracing::warn!(endpoint = %id, %address, %reason, "Endpoint ejected");
            }
            (Standing::Ejected, _) => {
                tracing::info!(endpoint = %id, %address, standing, %reason, "Endpoint is back");
            }
            // What a single request settles, or the next scrape, is no news.
            _ => tracing::debug!(endpoint = %id, %address, standing, %reason, "Endpoint health"),
        }
    }
}
