//! The formula that `queue-scorer` and `running-requests-size-scorer` share.

/// `(max - x) / (max - min)` over `candidates`, 1 for all where all are equal (llm-d-router main
/// at ebab6879).
pub(super) fn fewest_is_best(candidates: &[u32], scores: &mut [f64], value: impl Fn(u32) -> u32) {
    let (min, max) = candidates.iter().fold((u32::MAX, 0), |(min, max), &c| {
        let x = value(c);
        (min.min(x), max.max(x))
    });
    for (score, &c) in scores.iter_mut().zip(candidates) {
        *score = if max > min { f64::from(max - value(c)) / f64::from(max - min) } else { 1.0 };
    }
}
