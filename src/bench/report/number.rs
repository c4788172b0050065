//! Numbers as people read them.

/// Milliseconds with three significant digits: `0.412`, `13.3`, `1230`.
pub fn millis(ms: f64) -> String {
    significant(ms)
}

/// Microseconds with three significant digits.
pub fn micros(us: f64) -> String {
    significant(us)
}

fn significant(value: f64) -> String {
    let digits = match value.abs() {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    let digits = if value != 0.0 && value.abs() < 1.0 { 3 } else { digits };
    format!("{value:.digits$}")
}

/// A ratio: `1.25x`.
pub fn factor(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

/// A share of 1 in percent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A count with its thousands apart: `31 152`.
pub fn count(n: f64) -> String {
    let digits = format!("{:.0}", n.max(0.0));
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Bytes in MiB, the unit of the memory limits people set.
pub fn bytes(n: u64) -> String {
    format!("{:.1} MiB", n as f64 / (1 << 20) as f64)
}

/// What is not known is a dash.
pub fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    match values.len() % 2 {
        0 => Some((values.get(half - 1)? + upper) / 2.0),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, want) in
            [(0.0, "0.00"), (0.41249, "0.412"), (2.844, "2.84"), (13.31, "13.3"), (1230.4, "1230")]
        {
            assert_eq!(millis(value), want);
        }
        for (value, want) in [(0.0, "0"), (999.0, "999"), (31152.0, "31 152"), (1e6, "1 000 000")] {
            assert_eq!(count(value), want);
        }
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(bytes(3 << 19), "1.5 MiB");
        assert_eq!(optional(None::<f64>, millis), "-");
    }

    #[test]
    fn medians() {
        let of = |values: &[f64]| median(&mut values.to_vec());
        assert_eq!((of(&[]), of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0])), (None, Some(2.0), Some(2.5)));
    }
}
