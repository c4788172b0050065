//! Whether the pool can take more: saturation, which decides if sheddable requests are refused.

mod saturation;

pub use saturation::SaturationConfig;
