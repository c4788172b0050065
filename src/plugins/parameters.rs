//! What several plugin types do with their parameters.

use crate::config::{Fields, Placed};

/// For a type without parameters: the reference never looks at what it is given, so neither do
/// we, but we say so.
pub(super) fn none(parameters: Fields<'_>) {
    if !parameters.is_absent() {
        parameters.diagnostics().warning(
            parameters.at(),
            parameters.path(),
            "this type takes no parameters; these are ignored",
        );
    }
    parameters.ignore_rest();
}

/// A parameter that has no effect here, though a file may have it: accepted, with a warning that
/// says why.
pub(super) fn without_effect(parameters: &mut Fields<'_>, name: &'static str, why: &str) {
    if parameters.node(name).is_some() {
        parameters.warning(name, format!("has no effect: {why}"));
    }
}

/// The name of a prefix producer; an empty one, as none, asks for the default.
pub(super) fn prefix_producer<'a>(parameters: &mut Fields<'a>) -> Option<Placed<&'a str>> {
    parameters.placed_string("prefixMatchInfoProducerName")
}

/// The name of the producer of requests and tokens in flight, likewise.
pub(super) fn in_flight_producer<'a>(parameters: &mut Fields<'a>) -> Option<Placed<&'a str>> {
    parameters.placed_string("inFlightLoadProducerName")
}

/// An integer parameter for which the reference takes 0 and less for the default.
pub(super) fn positive(parameters: &mut Fields<'_>, name: &'static str, default: u64) -> u64 {
    match parameters.int(name) {
        Some(given @ 1..) => given.unsigned_abs(),
        _ => default,
    }
}

/// [`positive`] for what is counted in 32 bits here: more is as good as the most.
pub(super) fn positive_u32(parameters: &mut Fields<'_>, name: &'static str, default: u32) -> u32 {
    u32::try_from(positive(parameters, name, default.into())).unwrap_or(u32::MAX)
}

/// A number from 0 on, such as a weight.
pub(super) fn non_negative(parameters: &mut Fields<'_>, name: &'static str, default: f64) -> f64 {
    let value = parameters.float(name).unwrap_or(default);
    if value < 0.0 {
        parameters.error(name, format!("must not be negative, found {value}"));
    }
    value
}

/// A share of requests, 0 to 1.
pub(super) fn share(parameters: &mut Fields<'_>, name: &'static str, default: f64) -> f64 {
    let share = parameters.float(name).unwrap_or(default);
    if !(0.0..=1.0).contains(&share) {
        parameters.error(name, format!("must be from 0 to 1, found {share}"));
    }
    share
}
