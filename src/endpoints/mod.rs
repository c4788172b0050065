//! The pool: which endpoints exist, what each last told about itself, and what we sent to it.
//!
//! Discovery writes the pool, the data layer writes each endpoint's [`Signals`], the scheduler
//! reads both and holds [`Reservation`]s. Nothing here knows HTTP, Envoy or Kubernetes.

mod dense_index;
mod endpoint;
mod pool;
mod reservation;
mod signals;
mod state;

pub use dense_index::DenseIndex;
pub use endpoint::{Endpoint, EndpointSpec, InFlight, Labels};
pub use pool::{Pool, PoolChange, Snapshot};
pub use reservation::Reservation;
pub use signals::{LoraSignals, SignalValues, Signals};
pub use state::{StateSlot, StateSlots};

/// Endpoints for tests of this crate.
#[cfg(test)]
pub(crate) mod test_support {
    use super::*;

    /// An endpoint `default/<name>` at `127.0.0.<n>:8000`.
    pub(crate) fn endpoint(name: &str, n: u8) -> Endpoint {
        Endpoint::new(spec(name, n))
    }

    pub(crate) fn spec(name: &str, n: u8) -> EndpointSpec {
        EndpointSpec {
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
