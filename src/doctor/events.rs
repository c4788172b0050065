//! KV-cache events: whether engines publish them where they are followed, and say of a prompt what
//! the index finds again.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::endpoints::Asking;
use super::engine::Seen;
use super::probe::{self, Probed};
use super::setup::Setup;
use super::{DoctorOptions, Finding, MOMENT, Report, Subject};
use crate::app::TokioRuntime;
use crate::clock;
use crate::endpoints::{Endpoint, StateSlot};
use crate::kv_events::{
    Follow, FollowEvents, FollowPlan, Publishers, StreamState, Tracked, Trouble,
};
use crate::kv_index::{BYTES_PER_BLOCK, KvIndex, Limits};
use crate::kv_sockets::Sockets;
use crate::scheduling::Runtime;

const SUBJECT: Subject = Subject::Events;
/// Blocks that are remembered meanwhile: engines may say much while they are looked at.
const BLOCKS: usize = 1 << 20;
/// How long engines that were connected to, and those that computed a prompt, may take to be heard.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// How long engines that connect to us may take to: ZeroMQ tries again every 100 ms.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// Follows the events that the configuration asks for, sends the probes in between, and says what
/// came of it.
pub(super) async fn and_probe(
    setup: &Setup,
    options: &DoctorOptions,
    seen: &[Seen],
    report: &Report,
) {
    let plans = &setup.pipeline.hooks.follows;
    let wanted = options.wants(Subject::Events);
    let following: Vec<Following<'_>> = plans
        .iter()
        .filter(|_| wanted)
        .filter_map(|plan| Following::start(plan, setup, seen, report))
        .collect();
    wait(|| following.iter().all(|one| one.is_settled(seen))).await;
    let mut probed = Vec::new();
    if options.probe {
        // Those that publish take a moment to note that somebody subscribed.
        let waits_for_engines =
            following.iter().any(|one| matches!(one.plan.publishers, Publishers::ConnectTo(_)));
        sleep(if waits_for_engines { CONNECTED_WITHIN } else { 2 * MOMENT }).await;
        if let Ok(asking) = Asking::new(setup, options) {
            probed = probe::run(&asking, options, seen, report).await;
        }
        wait(|| following.iter().all(|one| one.is_heard(seen, &probed))).await;
    }
    for one in &following {
        for (i, seen) in seen.iter().enumerate().filter(|(_, seen)| seen.answers) {
            one.judge(seen, probed.get(i).and_then(Option::as_ref), report);
        }
    }
}

async fn wait(is_over: impl Fn() -> bool) {
    let until = Instant::now() + HEARD_WITHIN;
    while !is_over() && Instant::now() < until {
        sleep(MOMENT).await;
    }
}

/// One plugin's events, followed as it follows them.
struct Following<'a> {
    plan: &'a FollowPlan,
    index: Arc<KvIndex>,
    slot: StateSlot<Tracked>,
    runtime: Arc<dyn Runtime>,
    _task: AbortOnDropHandle<()>,
}

impl<'a> Following<'a> {
    fn start(plan: &'a FollowPlan, setup: &Setup, seen: &[Seen], report: &Report) -> Option<Self> {
        if let Publishers::ConnectTo(address) = plan.publishers
            && let Err(e) = TcpListener::bind(address)
        {
            let what = format!("{}: nobody can be waited for at {address} here: {e}", plan.plugin);
            report.add(
                Finding::note(SUBJECT, "events-port", what)
                    .why("engines connect to the epp that listens there")
                    .change("ask that one: --admin"),
            );
            return None;
        }
        let limits = Limits { bytes: BLOCKS * BYTES_PER_BLOCK, blocks_per_holder: BLOCKS };
        let index = Arc::new(KvIndex::new(limits, fastrand::u64(..)));
        let slot: StateSlot<Tracked> = setup.pool.ids().claim_slot();
        let (index_of, filter) = (index.clone(), plan.topic_filter.clone());
        for seen in seen {
            let made = || Tracked::new(&index_of, filter.clone());
            seen.endpoint.state.get_or_init(slot, made);
        }
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::default());
        let follow = Follow {
            pool: setup.pool.clone(),
            publishers: plan.publishers.clone(),
            topic_filter: plan.topic_filter.clone(),
            track: Arc::new(move |endpoint: &Endpoint| endpoint.state.get(slot)),
            runtime: runtime.clone(),
        };
        let task = tokio::spawn(Sockets::default().follow(follow));
        Some(Self { plan, index, slot, runtime, _task: AbortOnDropHandle::new(task) })
    }

    fn tracked<'e>(&self, endpoint: &'e Endpoint) -> Option<&'e Tracked> {
        endpoint.state.get(self.slot)
    }

    /// Every endpoint is followed, or it is known why it is not.
    fn is_settled(&self, seen: &[Seen]) -> bool {
        let Publishers::AtEndpoints { .. } = self.plan.publishers else { return true };
        seen.iter().filter(|seen| seen.answers).all(|seen| {
            self.tracked(&seen.endpoint).is_none_or(|tracked| {
                let status = tracked.status();
                status.state() == StreamState::Live || status.problem().is_some()
            })
        })
    }

    /// Every endpoint that computed a prompt has said so, or cannot.
    fn is_heard(&self, seen: &[Seen], probed: &[Option<Probed>]) -> bool {
        seen.iter().zip(probed).all(|(seen, probed)| {
            let (Some(probed), Some(tracked)) = (probed, self.tracked(&seen.endpoint)) else {
                return true;
            };
            let status = tracked.status();
            let is_heard = match &probed.ids {
                Some(_) => self.found(tracked, probed).is_some_and(|(held, _)| held > 0),
                None => status.counters.batches.get() > 0,
            };
            is_heard || status.problem().is_some()
        })
    }

    /// Tokens of the prompt that the events say are held, and how many could be.
    fn found(&self, tracked: &Tracked, probed: &Probed) -> Option<(u64, u64)> {
        let (block, ids) = (tracked.holder().block_size()?, probed.ids.as_ref()?);
        let keys = self.index.keys(&probed.model, ids, block, []);
        let held = tracked.holder().matched(&keys, clock::now()).held;
        Some((u64::from(held) * u64::from(block), keys.len() as u64 * u64::from(block)))
    }

    fn at(&self, endpoint: &Endpoint) -> String {
        match self.plan.publishers {
            Publishers::AtEndpoints { port, .. } => {
                let port = port.saturating_add(endpoint.spec.rank);
                SocketAddr::new(endpoint.spec.ip, port).to_string()
            }
            Publishers::ConnectTo(address) => address.to_string(),
        }
    }

    /// A topic that is not the one expected. At an endpoint's own port it is taken in all the same.
    fn topic(&self, seen: &Seen, topic: &str, report: &Report) {
        let (plugin, filter) = (&self.plan.plugin, &self.plan.topic_filter);
        let what = format!("publishes KV events under '{topic}', and '{filter}...' is expected");
        let finding = match self.plan.publishers {
            Publishers::AtEndpoints { .. } => Finding::note(SUBJECT, "events-topic", what)
                .why("they are taken in here; other pickers drop them"),
            Publishers::ConnectTo(_) => Finding::problem(SUBJECT, "events-topic", what)
                .why("whose events they are is told by the topic"),
        };
        report.add(finding.about(seen.name()).change(format!(
            "\"topic\": \"{filter}POD@MODEL\" in the engine's --kv-events-config, or {plugin}: \
             kvEventsConfig: {{topicFilter: ...}}"
        )));
    }

    fn judge(&self, seen: &Seen, probed: Option<&Probed>, report: &Report) {
        let Some(tracked) = self.tracked(&seen.endpoint) else { return };
        let (status, at, plugin) = (tracked.status(), self.at(&seen.endpoint), &self.plan.plugin);
        let problem = |check, what: String, change: String| {
            report.add(
                Finding::problem(SUBJECT, check, what)
                    .about(seen.name())
                    .why(format!("{plugin} estimates what it holds instead of knowing it"))
                    .change(change),
            );
        };
        let connects = matches!(self.plan.publishers, Publishers::AtEndpoints { .. });
        if connects && status.state() != StreamState::Live {
            let reason = status.problem().unwrap_or_else(|| "no answer yet".to_owned());
            let what = format!("publishes no KV events at {at}: {reason}");
            return problem("events-port", what, Trouble::NotConnected.likely_cause().to_owned());
        }
        if let Some(topic) = status.other_topic() {
            self.topic(seen, &topic, report);
        }
        let counters = &status.counters;
        let unread = counters.malformed_batches.get() + counters.malformed_messages.get();
        if unread > 0 {
            let what = format!("publishes what cannot be read: {unread} messages at {at}");
            let change = "is this the port of --kv-events-config? the replay port is another one";
            return problem("events-format", what, change.to_owned());
        }
        if counters.blocks_mismatched.get() > 0 {
            let what = "states a block size in its KV events that their tokens do not fill";
            let change = Trouble::BlockSize.likely_cause();
            return problem("events-blocks", what.to_owned(), change.to_owned());
        }
        let block = tracked.holder().block_size();
        if let Some(block) = block
            && block != self.plan.block_tokens
            && seen.cache.block_size != Some(block)
        {
            let what = format!(
                "names blocks of {block} tokens, {plugin} expects {}",
                self.plan.block_tokens
            );
            let change = format!("{plugin}: tokenProcessorConfig: {{blockSizeTokens: {block}}}");
            problem("events-block-size", what, change);
        }
        let batches = counters.batches.get();
        let Some(probed) = probed else {
            if batches == 0 && !connects {
                let what = format!("was not heard at {at} meanwhile");
                let why = "an idle engine says nothing, and one that does not connect neither";
                let note = Finding::note(SUBJECT, "events-port", what).why(why);
                report.add(note.about(seen.name()).change("--probe makes it speak"));
                return;
            }
            let heard = match batches {
                0 => "an idle engine says nothing; --probe makes it speak".to_owned(),
                n => format!("{n} batches were heard"),
            };
            let what = format!("is followed at {at}; {heard}");
            report.add(Finding::ok(SUBJECT, "events-port", what).about(seen.name()));
            return;
        };
        match self.found(tracked, probed) {
            _ if batches == 0 => {
                let what = format!("computed a prompt and published nothing of it at {at}");
                problem("events-silent", what, Trouble::Silent.likely_cause().to_owned());
            }
            Some((0, of)) if of > 0 => {
                let what = "publishes KV events, and nothing of the prompt that was sent to it is \
                            found by them";
                let change = "that this port belongs to this engine and data-parallel rank; that \
                              its events carry token_ids";
                problem("events-blocks", what.to_owned(), change.to_owned());
            }
            Some((held, of)) => {
                let what = format!("says it holds {held} of the {of} tokens of the prompt");
                report.add(Finding::ok(SUBJECT, "events-blocks", what).about(seen.name()));
            }
            None => {
                let what = format!("is followed at {at}; {batches} batches were heard");
                report.add(Finding::ok(SUBJECT, "events-port", what).about(seen.name()));
            }
        }
        // Kept until here: what it spawned ends with it.
        let _ = &self.runtime;
    }
}
