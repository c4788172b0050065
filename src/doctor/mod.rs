//! `epp doctor`: looks a set-up over from outside and says what is wrong with it, why that matters
//! and the line to change.
//!
//! [`Setup`] is what is looked at: a configuration and endpoints, as flags say them or as a running
//! `epp` has them. Every subject ([`Subject`]) has a module that asks over sockets and puts a
//! [`Finding`] for each thing it looked at into the one [`Report`]. Subjects are looked at side by
//! side, every answer is waited for with a limit of its own, and all of it ends in time.

mod cache;
mod endpoints;
mod engine;
mod envoy;
mod events;
mod http;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod metrics;
mod plugins;
mod probe;
mod report;
mod running;
mod setup;
mod text;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

pub use crate::cli::{DoctorOptions, Subject};
pub use report::{Finding, Report, Severity};
use setup::Setup;

/// Endpoints that are asked at one time.
const AT_ONCE: usize = 32;

/// Looks at everything that `options` ask for.
pub async fn examine(options: &DoctorOptions) -> Report {
    let report = Report::default();
    let deadline = Instant::now() + options.timeout;
    let set_up = async {
        // Where the subject was not asked for its findings are dropped, not its work: others need it.
        let setup = in_time(deadline, &report, Subject::Configuration, setup(options, &report));
        let Some(Some(setup)) = setup.await else { return };
        let endpoints = async {
            let seen = in_time(deadline, &report, Subject::Endpoints, async {
                endpoints::look(&setup, options, &report).await
            });
            let Some(seen) = seen.await else { return };
            cache::look(&setup, &seen, &report);
            let end = events::and_probe(&setup, options, &seen, &report);
            in_time(deadline, &report, Subject::Events, end).await;
        };
        let running = in_time(deadline, &report, Subject::Running, running::look(&setup, &report));
        tokio::join!(endpoints, running);
    };
    let envoy = in_time(deadline, &report, Subject::Envoy, envoy::look(options, &report));
    #[cfg(feature = "kubernetes")]
    let kubernetes =
        in_time(deadline, &report, Subject::Kubernetes, kubernetes::look(options, &report));
    #[cfg(not(feature = "kubernetes"))]
    let kubernetes = async {};
    tokio::join!(set_up, envoy, kubernetes);
    report.keep(|subject| options.wants(subject));
    report
}

async fn setup(options: &DoctorOptions, report: &Report) -> Option<Setup> {
    match &options.running {
        Some(access) => Setup::of_running(access, options, report).await,
        None => Setup::of_flags(options, report).await,
    }
}

/// What `work` gives, or a finding that it did not end.
async fn in_time<T>(
    deadline: Instant,
    report: &Report,
    subject: Subject,
    work: impl Future<Output = T>,
) -> Option<T> {
    let done = timeout_at(deadline, work).await.ok();
    if done.is_none() {
        report.add(
            Finding::problem(subject, "not-finished", "did not end in time")
                .why("what is not said here is not known")
                .change("--timeout, or fewer subjects with --only"),
        );
    }
    done
}

/// A wait that is shorter than what a person takes for a hang.
const MOMENT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
