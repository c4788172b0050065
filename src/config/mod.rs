//! Reading configuration so that a mistake is found with its place.
//!
//! Documents are YAML or JSON, read into [`Node`]s that know their line and column; [`Fields`]
//! reads a mapping field by field, collects every mistake in [`Diagnostics`] and names the
//! nearest valid spelling. `serde_yaml` could not do this: it stops at the first mistake and
//! keeps no positions in its values.

mod diagnostics;
mod fields;
mod node;
mod placed;
mod scalar;

pub use diagnostics::{Diagnostic, Diagnostics, Severity, did_you_mean, nearest};
pub use fields::{Fields, parse_duration, parse_quantity};
pub use node::{Key, Node, Position, Value, parse};
pub use placed::Placed;
