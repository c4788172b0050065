use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use smallvec::SmallVec;
use tracing::warn;

use super::expectation::Expectations;
use super::settings::PreciseSettings;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool, PoolIds, StateSlot};
use crate::exchange::{Ending, Outcome, OutcomeListener};
use crate::kv_events::{Follow, FollowEvents, FollowPlan, Hit, Tracked};
use crate::kv_index::KvIndex;
use crate::plugins::approx_prefix_cache_producer::{Limit, PrefixCacheSettings};
use crate::plugins::dependencies::Dependencies;
use crate::plugins::{Capabilities, Outside, ReachOutside};
use crate::prefix::{Chains, HashKey, HashedPrompt, PrefixIndex, hash_prompt};
use crate::scheduling::{
    AwaitingProducer, BoxFuture, Cycle, DataKey, DebugState, InferenceRequest, Lifecycle,
    PickObserver, Picked, PrefixMatch, PrefixSource, Producer, Put, ReadsAnswers, RequestData,
    RequestDatum, Runtime, TierBlocks,
};
use crate::tokens::{Patience, PromptTokens, TokenSource, TokenizedPrompt};

/// What a producer of this kind is called in messages.
pub(in crate::plugins) const PRODUCER_KIND: &str = "precise prefix producer";

/// Blocks of the estimate, in bytes of prompt: 64 tokens of four.
const ESTIMATE_BLOCK: u32 = 256;
/// Blocks remembered per endpoint for the estimate, where it does not tell how many it has.
const ESTIMATE_BLOCKS: u32 = 31_250;
/// How long endpoints are asked for the tokens of a prompt, where nobody else makes them. Within
/// what a producer may take (llm-d-router main at ebab6879: 400 ms).
const ASKING: Duration = Duration::from_millis(350);

/// How the prompts of a request are called in the indexes of one block size.
#[derive(Debug)]
struct Cut {
    block_tokens: u32,
    /// By prompt.
    keys: SmallVec<[Arc<[u64]>; 1]>,
}

/// What was found for one request beside the matches themselves.
#[derive(Debug, Default)]
pub(in crate::plugins) struct PreciseMatch {
    cuts: SmallVec<[Cut; 1]>,
    /// By candidate: blocks held by what the endpoint says, and their size; `None` where it is not
    /// relied upon.
    held: Vec<Option<(u32, u32)>>,
    prompt_tokens: u32,
    /// The hashes of the estimate, to be recorded for whoever is picked.
    estimate: HashedPrompt,
}

impl RequestDatum for PreciseMatch {
    const PRODUCER: &'static str = PRODUCER_KIND;
    const DEFAULT_PRODUCER: Option<&'static str> = None;
}

/// How much of prompts the endpoints hold, as their engines' events say; as our own picks tell
/// for an endpoint whose events cannot be relied upon, and for prompts without token ids.
#[derive(Debug)]
pub(in crate::plugins) struct PreciseCache {
    name: String,
    key: DataKey<PrefixMatch>,
    details: DataKey<PreciseMatch>,
    settings: PreciseSettings,
    index: Arc<KvIndex>,
    tracked: StateSlot<Tracked>,
    topic_filter: Arc<str>,
    estimate: PrefixIndex,
    hash_key: HashKey,
    estimate_settings: PrefixCacheSettings,
    /// Asks the endpoints themselves, where no `token-producer` gives token ids.
    own_tokens: Arc<TokenSource>,
    asks_itself: AtomicBool,
    own_key: DataKey<TokenizedPrompt>,
    expectations: Expectations,
    pool: OnceLock<(Arc<Pool>, Arc<dyn Runtime>)>,
    events: OnceLock<Arc<dyn FollowEvents>>,
    said_block_size: AtomicBool,
    /// Nobody asks any more.
    stopped: Arc<AtomicBool>,
}

/// What a candidate holds of a prompt, in tokens.
#[derive(Clone, Copy, Debug)]
struct Worth {
    /// With the weights of the tiers it lies on.
    weighted: f64,
    held: u32,
    /// From the beginning, in its CPU's memory.
    on_cpu: u32,
}

impl Worth {
    /// The same in blocks of `block_tokens`, without weights.
    fn blocks(self, block_tokens: u32) -> TierBlocks {
        let blocks = |tokens: u32| tokens.checked_div(block_tokens).unwrap_or_default();
        TierBlocks { held: blocks(self.held), on_cpu: blocks(self.on_cpu) }
    }
}

impl PreciseCache {
    /// A producer under `name`.
    pub(crate) fn new(
        name: &str,
        settings: PreciseSettings,
        dependencies: &mut Dependencies,
        ids: &PoolIds,
        hash_key: HashKey,
    ) -> Self {
        dependencies.read_first::<TokenizedPrompt>();
        let patience = Patience { text: ASKING, media: ASKING };
        let own_tokens = TokenSource::of_endpoints(patience);
        Self {
            name: name.to_owned(),
            key: dependencies.provide(name),
            details: dependencies.provide(name),
            own_key: dependencies.provide(name),
            index: Arc::new(KvIndex::new(settings.limits, fastrand::u64(..))),
            tracked: ids.claim_slot(),
            topic_filter: settings.topic_filter.as_str().into(),
            estimate: PrefixIndex::claim(ids),
            hash_key,
            estimate_settings: PrefixCacheSettings {
                auto_tune: true,
                block_bytes: ESTIMATE_BLOCK,
                min_block_bytes: ESTIMATE_BLOCK,
                limit: Limit::None,
                keep_tail: true,
                lru_capacity: ESTIMATE_BLOCKS,
                capacity_by_tokens: true,
            },
            own_tokens: Arc::new(own_tokens),
            asks_itself: AtomicBool::new(false),
            expectations: Expectations::default(),
            pool: OnceLock::new(),
            events: OnceLock::new(),
            said_block_size: AtomicBool::new(false),
            stopped: Arc::default(),
            settings,
        }
    }

    /// Where its results are.
    pub(crate) fn key(&self) -> DataKey<PrefixMatch> {
        self.key
    }

    /// The parts it plays.
    pub(crate) fn into_parts(self, also: Capabilities) -> Capabilities {
        let signals = crate::scrape_config::Needs { cache: true, ..also.signals };
        let plan = FollowPlan {
            plugin: self.name.clone(),
            publishers: self.settings.publishers.clone(),
            topic_filter: self.topic_filter.clone(),
            block_tokens: self.settings.block_tokens,
        };
        let cache = Arc::new(self);
        also.with::<FollowPlan>(Arc::new(plan))
            .with::<dyn Producer>(cache.clone())
            .with::<dyn AwaitingProducer>(cache.clone())
            .with::<dyn PickObserver>(cache.clone())
            .with::<dyn OutcomeListener>(cache.clone())
            .with::<dyn ReachOutside>(cache.clone())
            .with::<dyn Lifecycle>(cache.clone())
            .with::<dyn DebugState>(cache)
            // Whether an index is believed goes by the hits that answers tell.
            .reading_answers(ReadsAnswers::Usage)
            .reading(signals)
            .remembering("index of KV events")
    }

    /// The prompts in token ids: as the request gave them, or as somebody made them.
    fn tokens<'a>(
        &self,
        data: &'a RequestData,
        given: Option<&'a TokenizedPrompt>,
    ) -> Option<&'a [PromptTokens]> {
        let found = given.or_else(|| data.first::<TokenizedPrompt>());
        if found.is_none() {
            // Nobody else makes tokens: from the next request on the endpoints are asked.
            self.asks_itself.store(true, Ordering::Relaxed);
        }
        found?.prompts.as_deref()
    }

    fn cut(&self, request: &InferenceRequest, prompts: &[PromptTokens], block_tokens: u32) -> Cut {
        let keys = prompts.iter().map(|prompt| {
            let extras = prompt.extras(block_tokens, &request.cache_salt);
            self.index.keys(&request.target_model, &prompt.ids, block_tokens, extras).into()
        });
        Cut { block_tokens, keys: keys.collect() }
    }

    /// What each candidate holds, in tokens, where its events are relied upon.
    fn look_up(
        &self,
        cycle: &Cycle<'_>,
        prompts: &[PromptTokens],
        details: &mut PreciseMatch,
        worth: &mut Vec<Option<Worth>>,
    ) {
        // What the candidate before held of each prompt: the next one holds the same, most likely.
        let mut guesses: SmallVec<[u32; 4]> = SmallVec::from_elem(0, prompts.len());
        for candidate in cycle.candidates {
            let tracked = candidate.endpoint.state.get(self.tracked);
            let relied = tracked.filter(|tracked| tracked.is_relied_upon());
            let known = relied.and_then(|t| Some((t.holder(), t.holder().block_size()?)));
            let Some((holder, block_tokens)) = known else {
                details.held.push(None);
                worth.push(None);
                continue;
            };
            let cut = match details.cuts.iter().position(|cut| cut.block_tokens == block_tokens) {
                Some(there) => there,
                None => {
                    details.cuts.push(self.cut(cycle.request, prompts, block_tokens));
                    details.cuts.len() - 1
                }
            };
            let (mut held, mut on_cpu, mut blocks) = (0, 0, 0.0);
            for (keys, guess) in details.cuts[cut].keys.iter().zip(&mut guesses) {
                let found = holder.matched_near(keys, *guess, cycle.now);
                *guess = found.held;
                held += found.held;
                on_cpu += found.on_cpu;
                blocks += self.settings.worth(found.tiers)
                    + f64::from(found.expected - found.held) * self.settings.expected_weight();
            }
            details.held.push(Some((held, block_tokens)));
            let tokens = |blocks: u32| blocks.saturating_mul(block_tokens);
            let (held, on_cpu) = (tokens(held), tokens(on_cpu));
            worth.push(Some(Worth { weighted: blocks * f64::from(block_tokens), held, on_cpu }));
        }
    }

    /// Says once where the configuration and the engines disagree.
    fn compare_block_size(&self, block_tokens: u32) {
        let configured = self.settings.block_tokens;
        if block_tokens != configured && !self.said_block_size.swap(true, Ordering::Relaxed) {
            warn!(
                plugin = %self.name,
                configured,
                engine = block_tokens,
                "blockSizeTokens is not the engines' block size; the engines' is used"
            );
        }
    }
}

impl AwaitingProducer for PreciseCache {
    fn begin(&self, request: &Arc<InferenceRequest>) -> Option<BoxFuture<Option<Put>>> {
        if !self.asks_itself.load(Ordering::Relaxed) || TokenSource::given(request).is_some() {
            return None;
        }
        let (tokens, request, key) = (self.own_tokens.clone(), request.clone(), self.own_key);
        Some(Box::pin(async move {
            let found = tokens.tokenize(&request).await;
            Some(Box::new(move |data: &mut RequestData| data.set(key, found)) as Put)
        }))
    }
}

impl Producer for PreciseCache {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        let Some(first) = cycle.candidates.first() else { return };
        let request = cycle.request;
        if request.prompt.is_empty() {
            return;
        }
        let mut details = PreciseMatch::default();
        let mut worth = Vec::with_capacity(cycle.candidates.len());
        let given = TokenSource::given(request);
        if let Some(prompts) = self.tokens(data, given.as_ref()) {
            self.look_up(cycle, prompts, &mut details, &mut worth);
            let tokens: usize = prompts.iter().map(|prompt| prompt.ids.len()).sum();
            details.prompt_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        }
        let rule = self.estimate_settings.rule(&first.signals);
        let seed = self.hash_key.seed(&request.target_model, &request.cache_salt);
        details.estimate = hash_prompt(&request.prompt, seed, rule);
        let chains = Chains { hashes: &details.estimate.hashes, breaks: &details.estimate.breaks };
        let estimated =
            |candidate: usize| self.estimate.matched(cycle.candidates[candidate].endpoint, chains);
        let result = match details.cuts.first() {
            // Everything is estimated.
            None => PrefixMatch {
                matched: (0..cycle.candidates.len()).map(estimated).collect(),
                total: details.estimate.hashes.len() as u32,
                block_bytes: rule.block_bytes,
                ..PrefixMatch::default()
            },
            Some(cut) => {
                self.compare_block_size(cut.block_tokens);
                let block = f64::from(cut.block_tokens);
                let total: usize = cut.keys.iter().map(|keys| keys.len()).sum();
                let share = |candidate: usize| {
                    let all = details.estimate.hashes.len().max(1) as f64;
                    f64::from(estimated(candidate)) / all * total as f64
                };
                let blocks = |(candidate, worth): (usize, &Option<Worth>)| {
                    let blocks = worth.map_or_else(|| share(candidate), |w| w.weighted / block);
                    blocks.min(total as f64) as u32
                };
                PrefixMatch {
                    matched: worth.iter().enumerate().map(blocks).collect(),
                    tiers: worth
                        .iter()
                        .map(|w| Some(w.as_ref()?.blocks(cut.block_tokens)))
                        .collect(),
                    total: u32::try_from(total).unwrap_or(u32::MAX),
                    block_bytes: cut.block_tokens.saturating_mul(4),
                    source: PrefixSource::Indexed,
                    ..PrefixMatch::default()
                }
            }
        };
        if result.total > 0 {
            data.set(self.key, result);
        }
        data.set(self.details, details);
    }
}

impl PickObserver for PreciseCache {
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        let Some(found) = cycle.data.get(self.details) else { return };
        let chains = Chains { hashes: &found.estimate.hashes, breaks: &found.estimate.breaks };
        for target in picked.candidates() {
            let candidate = &cycle.candidates[target as usize];
            let capacity = self.estimate_settings.capacity(&candidate.signals, ESTIMATE_BLOCK);
            self.estimate.record(candidate.endpoint, chains, capacity);
            self.speculate(candidate.endpoint, found, cycle.now);
        }
        let Some(target) = picked.primary() else { return };
        if let Some(&Some((held, block_size))) = found.held.get(target as usize) {
            let indexed = held.saturating_mul(block_size);
            let hit = Hit { prompt: found.prompt_tokens, indexed, delivered: None, block_size };
            let endpoint = cycle.candidates[target as usize].endpoint.instance;
            self.expectations.put(&cycle.request.id, endpoint, hit);
        }
    }
}

impl PreciseCache {
    /// Believes for a while that the endpoint will hold what it was sent.
    fn speculate(&self, endpoint: &Endpoint, found: &PreciseMatch, now: Timestamp) {
        let Some(ttl) = self.settings.speculative_ttl else { return };
        let Some(tracked) = endpoint.state.get(self.tracked) else { return };
        let size = tracked.holder().block_size();
        let Some(cut) = found.cuts.iter().find(|cut| Some(cut.block_tokens) == size) else {
            return;
        };
        for keys in &cut.keys {
            tracked.holder().expect(keys.clone(), now, now + ttl);
        }
    }
}

impl OutcomeListener for PreciseCache {
    fn ended(&self, outcome: &Outcome<'_>) {
        let Some(endpoint) = outcome.endpoint else { return };
        let Some(hit) = self.expectations.take(&outcome.request.id, endpoint.instance) else {
            return;
        };
        let is_whole = matches!(outcome.ending, Ending::Complete | Ending::GatewayAlone);
        if !is_whole || outcome.response.status.is_some_and(|status| status != 200) {
            return;
        }
        let Some(tracked) = endpoint.state.get(self.tracked) else { return };
        let cached = outcome.response.usage.and_then(|usage| usage.cached);
        let delivered = cached.map(|cached| u32::try_from(cached).unwrap_or(u32::MAX));
        tracked.trust.ended(Hit { delivered, ..hit }, tracked.status());
    }
}

impl ReachOutside for PreciseCache {
    fn reach(&self, outside: &Outside) {
        let _ = self.events.set(outside.events.clone());
        self.own_tokens.set_client(&outside.renderer);
    }
}

impl Lifecycle for PreciseCache {
    fn start(&self, pool: &Arc<Pool>, runtime: &Arc<dyn Runtime>) {
        if self.pool.set((pool.clone(), runtime.clone())).is_err() {
            return;
        }
        self.own_tokens.set_pool(pool);
        let (slot, index, filter) = (self.tracked, self.index.clone(), self.topic_filter.clone());
        let Some(events) = self.events.get() else { return };
        let follow = Follow {
            pool: pool.clone(),
            publishers: self.settings.publishers.clone(),
            topic_filter: filter.clone(),
            track: Arc::new(move |endpoint: &Endpoint| track(endpoint, slot, &index, &filter)),
            runtime: runtime.clone(),
        };
        let (mut following, stopped) = (events.follow(follow), self.stopped.clone());
        // Followers look around many times a second: none goes on for long.
        runtime.spawn(Box::pin(poll_fn(move |context| match stopped.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => following.as_mut().poll(context),
        })));
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn track<'a>(
    endpoint: &'a Endpoint,
    slot: StateSlot<Tracked>,
    index: &Arc<KvIndex>,
    filter: &Arc<str>,
) -> Option<&'a Tracked> {
    endpoint.state.get_or_init(slot, || Tracked::new(index, filter.clone()))
}

impl DebugState for PreciseCache {
    fn debug_state(&self) -> serde_json::Value {
        let Some((pool, runtime)) = self.pool.get() else { return serde_json::Value::Null };
        let now = runtime.now();
        let snapshot = pool.snapshot();
        let endpoints = snapshot.endpoints.iter().filter_map(|endpoint| {
            let tracked = endpoint.state.get(self.tracked)?;
            Some((endpoint.id.to_string(), tracked.debug_state(now)))
        });
        let endpoints: serde_json::Map<String, serde_json::Value> = endpoints.collect();
        let (asked, failed) = self.own_tokens.counts();
        serde_json::json!({
            "endpoints": endpoints,
            "publishers": format!("{:?}", self.settings.publishers),
            "configuredBlockSizeTokens": self.settings.block_tokens,
            "tokensAskedOfEndpoints": asked,
            "tokensNotGiven": failed,
        })
    }
}
