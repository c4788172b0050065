//! The pool: which endpoints exist, what each last told about itself, and what we sent to it.
//!
//! Discovery writes the pool, the data layer writes each endpoint's [`Signals`], the scheduler
//! reads both and holds [`Reservation`]s. Nothing here knows HTTP, Envoy or Kubernetes.

mod attributes;
mod endpoint;
mod ids;
mod pool;
mod reservation;
mod shares;
mod signals;
mod state;

pub use attributes::{Scalar, ServedModel, ServedModels};
pub use endpoint::{Endpoint, EndpointSpec, InFlight, Labels, Placement};
pub use ids::{DenseIndex, PoolIds, SlotClaims};
pub use pool::{Pool, PoolChange, Snapshot};
pub use reservation::{Reservation, ReservationTerms};
pub use shares::{InFlightShares, Share};
pub use signals::{LoraSignals, SignalValues, Signals};
pub use state::{EndpointMemory, StateSlot, StateSlots};

/// Endpoints for tests of this crate.
#[cfg(test)]
pub(crate) mod test_support {
    use std::sync::LazyLock;

    use super::*;

    /// An endpoint `default/<name>` at `127.0.0.<n>:8000`, of a pool that all tests share.
    pub(crate) fn endpoint(name: &str, n: u8) -> Endpoint {
        static IDS: LazyLock<PoolIds> = LazyLock::new(PoolIds::default);
        Endpoint::new(spec(name, n), &IDS)
    }

    pub(crate) fn spec(name: &str, n: u8) -> EndpointSpec {
        EndpointSpec {
            placement: Default::default(),
            namespace: "default".into(),
            name: name.into(),
            pod_name: name.into(),
            ip: [127, 0, 0, n].into(),
            port: 8000,
            rank: 0,
            uid: String::new(),
            labels: Default::default(),
        }
    }
}
