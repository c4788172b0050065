//! The state machine of one endpoint: what each observation makes of it. No locks, no clock.

use std::time::Duration;

use super::failures::Failures;
use super::observation::{Attempt, Change, Failure, Observation, Reason, Scrape, Standing};
use super::policy::HealthPolicy;
use super::silence::Silence;
use super::speed::Speed;
use crate::clock::Timestamp;

/// Refused scrapes in a row that count as a sign: one may hit a moment of its own.
const REFUSED: u32 = 2;
/// Where the others fail this often, failing is no reason to leave an endpoint out.
const ALL_FAIL: f64 = 0.5;
/// Metrics lie when they show less than half of the requests that we have there, at least so
/// many, ...
const LIE_REQUESTS: i64 = 3;
/// ... for so long: what was just sent, or has just ended, may not be in them.
const LIE_TIME: Duration = Duration::from_secs(2);

/// What an observation is seen beside.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub policy: &'a HealthPolicy,
    pub now: Timestamp,
    /// Requests that were sent around endpoints that are out of service, so far.
    pub requests: u64,
    /// The others' share of failures.
    pub others: f64,
    /// A probe unanswered for so long has failed.
    pub hang_limit: Duration,
    /// A random number in [0, 1).
    pub random: f64,
}

/// An endpoint out of service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Out {
    /// When it went out, or when it was last tried in vain.
    pub since: Timestamp,
    /// The earliest moment of the next probe ...
    pub not_before: Timestamp,
    /// ... and so many requests must have been sent around it by then.
    pub requests: u64,
    /// It went out for answering nothing, so any answer brings it back.
    silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Healthy,
    Suspect(Out),
    Ejected(Out),
    Returning { since: Timestamp },
}

/// The request that tries whether an endpoint is back; one at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Probe {
    None,
    /// A request was told to try; it has not left yet.
    Claimed(Timestamp),
    Sent(Timestamp),
}

#[derive(Debug)]
pub(super) struct Machine {
    pub state: State,
    pub failures: Failures,
    pub silence: Silence,
    pub speed: Speed,
    probe: Probe,
    /// What was sent before its last ejection does not count any more.
    counts_from: Timestamp,
    /// How often in a row it was ejected, counted from 0, and when it was last well again.
    repetition: Option<(u32, Timestamp)>,
    metrics_were_read: bool,
    refused: u32,
    /// A request came through while metrics were refused: they say nothing.
    refusal_disproved: bool,
    lying_since: Option<Timestamp>,
    pub lies: bool,
    /// The last change of standing, and when it was.
    pub last_change: Option<(Change, Timestamp)>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Healthy,
            failures: Failures::default(),
            silence: Silence::default(),
            speed: Speed::default(),
            probe: Probe::None,
            counts_from: Timestamp::START,
            repetition: None,
            metrics_were_read: false,
            refused: 0,
            refusal_disproved: false,
            lying_since: None,
            lies: false,
            last_change: None,
        }
    }
}

/// What an observation says about the endpoint.
enum Evidence {
    Good,
    Bad(Failure),
    None,
}

impl Machine {
    pub(super) fn standing(&self) -> Standing {
        match self.state {
            State::Healthy => Standing::Healthy,
            State::Suspect(_) => Standing::Suspect,
            State::Ejected(_) => Standing::Ejected,
            State::Returning { .. } => Standing::Returning,
        }
    }

    /// Connections for metrics are refused, which they were not always.
    pub(super) fn is_refusing(&self) -> bool {
        self.metrics_were_read && !self.refusal_disproved && self.refused >= REFUSED
    }

    /// The endpoint as out of service, if it is.
    fn out(&mut self) -> Option<&mut Out> {
        match &mut self.state {
            State::Suspect(out) | State::Ejected(out) => Some(out),
            State::Healthy | State::Returning { .. } => None,
        }
    }

    /// When a probe may be sent: from the first moment on, if so many requests were sent around
    /// the endpoint, and from the second in any case.
    pub(super) fn probe_due(&self, policy: &HealthPolicy) -> Option<(Timestamp, u64, Timestamp)> {
        let (from, requests, latest) = match self.state {
            State::Suspect(Out { since, .. }) => (since, 0, since),
            State::Ejected(Out { since, .. }) if self.is_refusing() => {
                let latest = since + policy.refused_probe_wait;
                (latest, 0, latest)
            }
            State::Ejected(Out { since, not_before, requests, .. }) => {
                (not_before, requests, not_before.max(since + policy.max_probe_wait))
            }
            State::Healthy | State::Returning { .. } => return None,
        };
        // One in flight. One that is stuck, as behind a gateway without time-outs, is not waited
        // for until the end of time.
        let stuck = match self.probe {
            Probe::None => Timestamp::START,
            Probe::Claimed(at) | Probe::Sent(at) => at + policy.refused_probe_wait,
        };
        Some((from.max(stuck), requests, latest.max(stuck)))
    }

    /// Claims the one probe that may be in flight, if one is due.
    pub(super) fn claim_probe(&mut self, around: &Surroundings<'_>) -> bool {
        let due = self.probe_due(around.policy).is_some_and(|(from, requests, latest)| {
            let soon = around.now >= from && around.requests >= requests;
            soon || around.now >= latest
        });
        if due {
            self.probe = Probe::Claimed(around.now);
        }
        due
    }

    /// The request that claimed the probe went elsewhere.
    pub(super) fn unclaim_probe(&mut self) {
        if let Probe::Claimed(_) = self.probe {
            self.probe = Probe::None;
        }
    }

    /// A request is sent; where a probe was claimed, this is it.
    pub(super) fn sent(&mut self, now: Timestamp) {
        self.silence.sent(now);
        if let Probe::Claimed(_) = self.probe {
            self.probe = Probe::Sent(now);
        }
    }

    /// A request has come to something. True where it was the probe.
    fn end_probe(&mut self, sent_at: Timestamp) -> bool {
        let was_probe = self.probe == Probe::Sent(sent_at);
        if was_probe {
            self.probe = Probe::None;
        }
        was_probe
    }

    /// Takes in what became of a request.
    pub(super) fn observe(
        &mut self,
        attempt: &mut Attempt,
        observation: Observation,
        around: &Surroundings<'_>,
    ) -> Option<Change> {
        if !attempt.conclude() {
            return None;
        }
        let is_alive = !matches!(observation, Observation::Failed(_) | Observation::Abandoned);
        self.silence.over(is_alive, around.now);
        if let Observation::Answered { work } = observation {
            self.speed.note(around.now.since(attempt.sent_at), work, around.now);
        }
        self.settle(around);
        let sent_at = attempt.sent_at;
        let probe = self.end_probe(sent_at);
        let evidence = match observation {
            Observation::Answered { .. } | Observation::Acknowledged => Evidence::Good,
            Observation::Failed(failure) => Evidence::Bad(failure),
            Observation::Abandoned if probe && around.now.since(sent_at) >= around.hang_limit => {
                Evidence::Bad(Failure::NoResponse)
            }
            Observation::Rejected | Observation::Abandoned => Evidence::None,
        };
        self.weigh(&evidence, sent_at, probe, around)
    }

    fn weigh(
        &mut self,
        evidence: &Evidence,
        sent_at: Timestamp,
        probe: bool,
        around: &Surroundings<'_>,
    ) -> Option<Change> {
        let counts = sent_at >= self.counts_from;
        match (self.state, evidence) {
            (State::Healthy, Evidence::Bad(failure)) if counts => {
                self.failures.note(true);
                self.is_ill(*failure, around).and_then(|reason| self.eject(reason, around))
            }
            (State::Healthy | State::Returning { .. }, Evidence::Good) if counts => {
                self.failures.note(false);
                None
            }
            (State::Returning { .. }, Evidence::Bad(failure)) if counts => {
                self.failures.note(true);
                let alone = around.others < ALL_FAIL;
                alone.then(|| self.eject(Reason::FailedAgain(*failure), around)).flatten()
            }
            (State::Suspect(out), Evidence::Good) if sent_at >= out.since => {
                self.refusal_disproved = true;
                self.become_healthy(Reason::Served, around)
            }
            (State::Suspect(_), Evidence::Bad(last)) => {
                self.failures.note(true);
                let failures = self.failures.in_a_row;
                self.eject(Reason::InARow { failures, last: *last }, around)
            }
            (State::Ejected(out), Evidence::Good) if counts || out.silent => {
                let since = around.now;
                self.refusal_disproved |= self.is_refusing();
                self.failures = Failures::default();
                self.change(State::Returning { since }, Reason::Served, since)
            }
            (State::Ejected(_), Evidence::Bad(_)) if probe && around.others >= ALL_FAIL => {
                self.become_healthy(Reason::AllFailAlike, around)
            }
            (State::Ejected(_), Evidence::Bad(failure)) if probe => {
                self.failures.note(true);
                self.eject(Reason::FailedAgain(*failure), around)
            }
            _ => None,
        }
    }

    fn is_ill(&self, last: Failure, around: &Surroundings<'_>) -> Option<Reason> {
        let Surroundings { policy, others, .. } = *around;
        if self.failures.is_run(policy.failures_in_a_row, others) {
            return Some(Reason::InARow { failures: self.failures.in_a_row, last });
        }
        let often = self.failures.is_often(policy.failure_share, others);
        often.then(|| Reason::Share { failures: self.failures.share(), others, last })
    }

    /// Answered nothing for `silent_for`, while others did.
    pub(super) fn fell_silent(
        &mut self,
        silent_for: Duration,
        around: &Surroundings<'_>,
    ) -> Option<Change> {
        self.settle(around);
        if self.out().is_some() {
            return None;
        }
        let change = self.eject(Reason::Silent { seconds: silent_for.as_secs_f64() }, around);
        if let Some(out) = self.out() {
            out.silent = true;
        }
        change
    }

    /// Takes in how a scrape went; `in_flight` requests of ours were there then.
    pub(super) fn scraped(
        &mut self,
        scrape: Scrape,
        in_flight: i64,
        around: &Surroundings<'_>,
    ) -> Option<Change> {
        self.settle(around);
        match scrape {
            Scrape::Failed => None,
            Scrape::Refused => {
                self.refused = self.refused.saturating_add(1);
                let in_service = self.out().is_none();
                if !(in_service && self.is_refusing()) {
                    return None;
                }
                let out =
                    Out { since: around.now, not_before: around.now, requests: 0, silent: false };
                self.change(State::Suspect(out), Reason::MetricsRefused, around.now)
            }
            Scrape::Read { busy } => {
                self.note_busy(busy, in_flight, around.now);
                let was_refusing = self.is_refusing();
                self.metrics_were_read = true;
                self.refused = 0;
                self.refusal_disproved = false;
                match &mut self.state {
                    State::Suspect(_) => self.become_healthy(Reason::MetricsBack, around),
                    State::Ejected(out) if was_refusing => {
                        // It is tried as soon as its wait is over, which in the case of one that
                        // flaps it is not: else each return of its metrics would cost requests.
                        out.requests = 0;
                        None
                    }
                    _ => None,
                }
            }
        }
    }

    fn note_busy(&mut self, busy: Option<u32>, in_flight: i64, now: Timestamp) {
        // With fewer requests nothing can be said, and what was found before holds.
        if let (Some(busy), true) = (busy, in_flight >= LIE_REQUESTS) {
            let lies = i64::from(busy).saturating_mul(2) < in_flight;
            self.lying_since = lies.then(|| self.lying_since.unwrap_or(now));
        }
        self.lies = self.lying_since.is_some_and(|since| now.since(since) >= LIE_TIME);
    }

    /// An endpoint whose share has grown to a full one is healthy.
    fn settle(&mut self, around: &Surroundings<'_>) {
        if let State::Returning { since } = self.state
            && around.now.since(since) >= around.policy.return_time
        {
            self.state = State::Healthy;
            self.well_again(around.now);
        }
    }

    fn well_again(&mut self, now: Timestamp) {
        if let Some((_, ended)) = &mut self.repetition {
            *ended = now;
        }
    }

    fn become_healthy(&mut self, reason: Reason, around: &Surroundings<'_>) -> Option<Change> {
        self.failures = Failures::default();
        self.well_again(around.now);
        self.change(State::Healthy, reason, around.now)
    }

    /// Out of service, for longer the more often it happens; spread, so that endpoints that
    /// failed together are not tried together.
    fn eject(&mut self, reason: Reason, around: &Surroundings<'_>) -> Option<Change> {
        let Surroundings { policy, now, .. } = *around;
        let repetition = match self.repetition {
            Some((_, ended))
                if self.state == State::Healthy && now.since(ended) > policy.forget_after =>
            {
                0
            }
            Some((repetition, _)) => repetition.saturating_add(1),
            None => 0,
        };
        self.repetition = Some((repetition, now));
        self.counts_from = now;
        let out = Out {
            since: now,
            not_before: now + policy.ejection(repetition).mul_f64(0.75 + 0.5 * around.random),
            requests: around.requests.saturating_add(policy.requests_per_probe(repetition)),
            silent: false,
        };
        self.change(State::Ejected(out), reason, now)
    }

    /// The change, where it is one of standing.
    fn change(&mut self, state: State, reason: Reason, now: Timestamp) -> Option<Change> {
        let from = self.standing();
        self.state = state;
        let change = Change { from, to: self.standing(), reason };
        self.last_change = Some((change, now));
        (change.from != change.to).then_some(change)
    }
}
