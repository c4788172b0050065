use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::EndpointMemory;

/// A number told of an endpoint beside its [`super::Signals`]; none until it is told first.
#[derive(Debug)]
pub struct Scalar(AtomicU64);

/// Stands for none: no number that is told is one that is not a number.
const NONE: f64 = f64::NAN;

impl Default for Scalar {
    fn default() -> Self {
        Self(AtomicU64::new(NONE.to_bits()))
    }
}

impl Scalar {
    /// What was told last.
    pub fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|value| !value.is_nan())
    }

    /// Takes note of a number; what is not a number counts as none.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl EndpointMemory for Scalar {
    fn forget(&self) -> bool {
        self.set(NONE);
        true
    }
}

/// One entry of an endpoint's `/v1/models`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedModel {
    /// The name that requests use.
    pub id: String,
    /// The model that an adapter belongs to; empty for a model of its own.
    pub parent: String,
}

/// The models that an endpoint last said it serves; none until it says so first.
#[derive(Debug, Default)]
pub struct ServedModels(ArcSwapOption<Vec<ServedModel>>);

impl ServedModels {
    /// What was told last.
    pub fn load(&self) -> arc_swap::Guard<Option<std::sync::Arc<Vec<ServedModel>>>> {
        self.0.load()
    }

    /// Takes note of a list, touching memory only where it changed.
    pub fn store(&self, models: Vec<ServedModel>) {
        if self.0.load().as_deref() != Some(&models) {
            self.0.store(Some(models.into()));
        }
    }
}

impl EndpointMemory for ServedModels {
    fn forget(&self) -> bool {
        self.0.store(None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_none_until_it_is_told() {
        let scalar = Scalar::default();
        assert_eq!(scalar.get(), None);
        for value in [0.0, -1.5, f64::INFINITY] {
            scalar.set(value);
            assert_eq!(scalar.get(), Some(value));
        }
        scalar.set(f64::NAN);
        assert_eq!(scalar.get(), None);
    }
}
