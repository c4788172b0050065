//! Progress bars, on the terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps; hidden when `quiet` or when standard error is no terminal.
pub fn bar(length: u64, label: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {eta:>5}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style);
    bar.set_message(label.to_owned());
    bar
}

/// Sleeps for `time` and moves a bar along.
pub fn sleep(time: Duration, bar: &ProgressBar) {
    let end = std::time::Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
        bar.tick();
    }
}
