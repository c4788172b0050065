use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp as WallClock;
use xxhash_rust::xxh64::xxh64;

use super::batch::{Batch, Blocks, Named, Seen, found};
use super::files::Files;
use super::writer::{Counts, Writer};
use super::{BLOCK_TOKENS, FileName, RecordOptions, Row};
use crate::clock::{self, Timestamp};
use crate::endpoints::Pool;
use crate::exchange::{Outcome, OutcomeListener};
use crate::prefix::{BlockRule, HashKey, hash_prompt};
use crate::scheduling::{
    InferenceRequest, MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics,
    PrefixSource,
};

/// How long the end of the program may wait for the last rows to be written.
const PATIENCE: Duration = Duration::from_secs(2);
/// A pseudo-token is four bytes of text.
const BYTES_PER_TOKEN: u32 = 4;
/// How the recorder cuts prompts that nobody else has cut: as `approx-prefix-cache-producer` does
/// by default.
const RULE: BlockRule = BlockRule {
    block_bytes: BLOCK_TOKENS * BYTES_PER_TOKEN,
    max_blocks: 131_072 / BLOCK_TOKENS,
    keep_tail: true,
};

/// Records how exchanges end. What it takes from them are numbers and hashes under keys that
/// nobody knows and that end with the process; the hashes in turn leave it as numbers in the order
/// in which they were first seen, so that nothing in a recording depends on what was asked but
/// for its size, and how far requests begin alike.
pub struct Recorder {
    batch: Arc<Batch>,
    counts: Arc<Counts>,
    /// The key of the prefix index, so that what it hashed need not be hashed again.
    prompt_key: HashKey,
    name_key: u64,
    pool: Arc<Pool>,
    started: Timestamp,
    id: String,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({})", self.id)
    }
}

impl Recorder {
    /// Starts a recording of the requests to `pool`. `prompt_key` is the one that the configuration's plugins hash prompts
    /// with; `config` is the mark of
    /// the configuration ([`super::config_mark`]).
    ///
    /// # Errors
    /// Where no file can be written, with a text for the user.
    pub fn start(
        options: RecordOptions,
        prompt_key: HashKey,
        config: &str,
        pool: Arc<Pool>,
    ) -> Result<Self, String> {
        let dir = options.dir.display().to_string();
        let failed = |e: std::io::Error| format!("cannot write to {dir}: {e}");
        let now = WallClock::now();
        let id = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let started = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let name = FileName { started, recording: id.clone(), file: 0 };
        let files =
            Files::new(options, name, now.to_string(), config.to_owned()).map_err(failed)?;
        let (batch, counts) = (Arc::<Batch>::default(), Arc::<Counts>::default());
        let writer = Writer::new(batch.clone(), counts.clone(), files);
        std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(|| writer.run())
            .map_err(failed)?;
        let started = clock::now();
        tracing::info!(folder = dir, recording = id, "Recording");
        let name_key = fastrand::u64(..);
        Ok(Self { batch, counts, prompt_key, name_key, pool, started, id })
    }

    /// Puts away what has been recorded; nothing more is.
    pub fn stop(&self) {
        self.batch.close(PATIENCE);
    }

    fn name(&self, name: &str) -> u64 {
        xxh64(name.as_bytes(), self.name_key)
    }

    /// The blocks of the request's prompts and the size of one.
    fn blocks(&self, outcome: &Outcome<'_>, tokens: u64) -> (Blocks, u32) {
        if tokens == 0 {
            return (Blocks::Unknown, BLOCK_TOKENS);
        }
        let InferenceRequest { prompt, target_model, cache_salt, .. } = outcome.request;
        let data = outcome.decision.map(|decision| &decision.data);
        if let Some((data, found)) = data.and_then(|data| Some((data, found(data)?))) {
            let covered = found.hashes.len() as u64 * u64::from(found.block_tokens());
            let cut = u64::from(RULE.max_blocks) * u64::from(BLOCK_TOKENS);
            if covered >= tokens.min(cut) && found.block_tokens() > 0 {
                return (Blocks::Found(data.clone()), found.block_tokens());
            }
        }
        let own = hash_prompt(prompt, self.prompt_key.seed(target_model, cache_salt), RULE);
        (Blocks::Own(own), BLOCK_TOKENS)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl OutcomeListener for Recorder {
    fn ended(&self, outcome: &Outcome<'_>) {
        if !outcome.has_body {
            return;
        }
        let Outcome { request, times, response, .. } = *outcome;
        let estimated_tokens = request.prompt.token_count();
        let (blocks, block_tokens) = self.blocks(outcome, estimated_tokens);
        let several = blocks.chains().breaks.len() as u32 + 1;
        let usage = response.usage;
        let counted = (response.counted > 0).then_some(response.counted);
        let chunks = || response.intervals.counts().iter().map(|&n| u64::from(n)).sum::<u64>() + 1;
        let belief = outcome.decision.and_then(|decision| {
            let indexed = decision.beliefs.iter().find(|b| b.source == PrefixSource::Indexed);
            indexed.or(decision.beliefs.first())
        });
        let has_chunks = response.streaming && times.first_byte.is_some();
        let row = Row {
            at_us: micros(times.received.since(self.started)),
            bytes: request.body_bytes as u64,
            block_tokens: (block_tokens != BLOCK_TOKENS).then_some(block_tokens),
            prompts: (several > 1).then_some(several),
            estimated_tokens,
            prompt_tokens: usage.map(|usage| usage.prompt),
            cached_tokens: usage.and_then(|usage| usage.cached),
            output_tokens: usage.map(|usage| usage.completion).or(counted),
            predicted_tokens: belief.map(|belief| belief.tokens().min(estimated_tokens)),
            max_tokens: request.max_output_tokens,
            priority: request.priority,
            pool_size: Some(self.pool.snapshot().endpoints.len() as u32),
            queued_us: times.queued.map(micros),
            ttft_us: times.ttft().map(micros),
            duration_us: micros(times.duration()),
            status: response.status,
            stream: response.streaming,
            chunks: has_chunks.then(chunks),
            answer_bytes: response.bytes,
            end: outcome.ending.as_str().into(),
            refused: outcome.refusal.map(|refusal| refusal.error.code.as_str().into()),
            ..Row::default()
        };
        let model = Some(request.target_model.as_str()).filter(|model| !model.is_empty());
        let named = Named {
            model: model.map(|model| self.name(model)),
            tenant: self.name(request.fairness_id()),
            objective: request.objective().map(|objective| self.name(objective)),
            endpoint: outcome.endpoint.map(|endpoint| self.name(&endpoint.id)),
        };
        self.batch.push(Seen { row, blocks, named });
    }
}

impl PluginMetrics for Recorder {
    fn families(&self) -> Vec<MetricFamily> {
        let family =
            |name, help, samples| MetricFamily { name, help, kind: MetricKind::Counter, samples };
        let number = |labels, n: u64| MetricSample { labels, value: MetricValue::Number(n as f64) };
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let dropped = |reason: &str, n| number(vec![("reason", reason.to_owned())], n);
        vec![
            family(
                "llm_d_epp_recording_requests_total",
                "Requests whose rows are on the disk.",
                vec![number(Vec::new(), of(&self.counts.written))],
            ),
            family(
                "llm_d_epp_recording_dropped_total",
                "Requests that were not recorded: the recorder did not keep up (queue), or the \
                 disk did not take them (disk).",
                vec![
                    dropped("queue", of(&self.batch.turned_away)),
                    dropped("disk", of(&self.counts.lost)),
                ],
            ),
            family(
                "llm_d_epp_recording_bytes_total",
                "Bytes written to the disk, compressed.",
                vec![number(Vec::new(), of(&self.counts.bytes))],
            ),
        ]
    }
}
