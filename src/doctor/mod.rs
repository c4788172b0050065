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
use report::NOT_FINISHED;
pub use report::{Finding, Report, Severity};
use setup::Setup;

/// Endpoints that are asked at one time.
const AT_ONCE: usize = 32;

/// Looks at everything that `options` ask for.
pub async fn examine(options: &DoctorOptions) -> Report {
    let report = Report::default();
    let deadline = Instant::now() + options.timeout;
    let of_set_up = async {
        let setup = match options.has_setup() && needs_setup(options) {
            true => {
                let looked = setup(options, &report);
                in_time(deadline, &report, Subject::Configuration, looked).await.flatten()
            }
            false => None,
        };
        // Without it little of what was asked for could be looked at: that is said in any case.
        if setup.is_none() {
            report.keep_problems();
        }
        let envoy = envoy::look(options, setup.as_ref(), &report);
        let envoy = in_time(deadline, &report, Subject::Envoy, envoy);
        let Some(setup) = &setup else {
            envoy.await;
            return;
        };
        let running = in_time(deadline, &report, Subject::Running, running::look(setup, &report));
        tokio::join!(look_at_endpoints(setup, options, deadline, &report), running, envoy);
    };
    #[cfg(feature = "kubernetes")]
    let kubernetes =
        in_time(deadline, &report, Subject::Kubernetes, kubernetes::look(options, &report));
    #[cfg(not(feature = "kubernetes"))]
    let kubernetes = async {};
    tokio::join!(of_set_up, kubernetes);
    report.keep(|subject| options.wants(subject));
    report
}

/// Whether something is asked for that a configuration and endpoints are needed for.
fn needs_setup(options: &DoctorOptions) -> bool {
    needs_endpoints(options)
        || [Subject::Configuration, Subject::Running].iter().any(|s| options.wants(*s))
        || (options.wants(Subject::Envoy) && !options.envoy.is_empty())
}

fn needs_endpoints(options: &DoctorOptions) -> bool {
    let probes = options.probe && options.wants(Subject::Probe);
    probes
        || [Subject::Endpoints, Subject::Cache, Subject::Events].iter().any(|s| options.wants(*s))
}

async fn look_at_endpoints(
    setup: &Setup,
    options: &DoctorOptions,
    deadline: Instant,
    report: &Report,
) {
    if !needs_endpoints(options) {
        return;
    }
    let seen = endpoints::look(setup, options, report);
    let Some(seen) = in_time(deadline, report, Subject::Endpoints, seen).await else { return };
    cache::look(setup, &seen, report);
    let subject = if options.probe { Subject::Probe } else { Subject::Events };
    let rest = events::and_probe(setup, options, &seen, report);
    in_time(deadline, report, subject, rest).await;
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
            Finding::problem(subject, NOT_FINISHED, "did not end in time")
                .why("what is not said here is not known")
                .change("--timeout, or fewer subjects with --only"),
        );
    }
    done
}

/// A wait that is shorter than what a person takes for a hang.
const MOMENT: Duration = Duration::from_millis(50);
