//! What an engine is asked, in which order.

use serde_json::Value;
use tokio::task::JoinSet;

use super::CalibrateArgs;
use super::client::{Answer, EngineClient};
use super::measurements::{Cached, Cold, Decode, Measurements};
use crate::bench::engine_api::{page_of, served_models};
use crate::bench::progress;
use crate::bench::report::median;
use crate::datalayer::exposition::FamilyName;

/// Tokens of the prompts of those that ask at once, and of their answers.
const CONTEXT: u32 = 512;
const ANSWER: u32 = 96;
/// The same for what a token of context costs: one concurrency more, of long prompts.
const LONG_CONTEXT: u32 = 4096;
const LONG_CONTEXT_AT: u32 = 16;
/// Shares of a prompt that are in the cache.
const SHARES: [f64; 5] = [0.25, 0.5, 0.75, 0.9, 1.0];
/// Prompts are asked with these lengths for them, where the model takes them.
const CACHED_LENGTHS: [u32; 2] = [4096, 16_384];
/// Token ids of prompts: any vocabulary has these, and no end of text is among them.
const TOKEN_IDS: std::ops::Range<u32> = 10..3900;

/// What is to be asked.
#[derive(Debug)]
pub(super) struct Plan {
    url: String,
    model: Option<String>,
    repeat: usize,
    lengths: Vec<u32>,
    concurrency: Vec<u32>,
    words: bool,
    quiet: bool,
}

impl Plan {
    pub(super) fn of(args: &CalibrateArgs, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            model: args.model.clone(),
            repeat: usize::from(args.repeat),
            lengths: args.lengths.clone(),
            concurrency: args.concurrency.clone(),
            words: args.words,
            quiet: args.output.quiet,
        }
    }

    /// A prompt as the engine gets it. A word of three letters with the blank before it is about
    /// one token; what it came to, the engine tells.
    fn json(&self, tokens: &[u32]) -> Value {
        if !self.words {
            return tokens.into();
        }
        let letter = |n: u32| char::from(b'a' + (n % 26) as u8);
        let word = |&t: &u32| [letter(t), letter(t / 26), letter(t / 676), ' '];
        Value::from(tokens.iter().flat_map(word).collect::<String>())
    }
}

/// Tokens that no prompt before had.
fn prompt(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|_| fastrand::u32(TOKEN_IDS)).collect()
}

/// # Errors
/// Where the engine does not answer, with a text for the user.
pub(super) async fn run(plan: &Plan) -> Result<Measurements, String> {
    let client = EngineClient::new(&plan.url)?;
    let listed = served_models(client.url()).await?;
    let model = match &plan.model {
        None => listed.first(),
        Some(name) => listed.iter().find(|model| model.id == *name),
    };
    let found = model.ok_or_else(|| {
        let names: Vec<&str> = listed.iter().map(|model| model.id.as_str()).collect();
        format!("the engine does not serve the model; it serves: {}", names.join(", "))
    })?;
    let (block_size, num_blocks) = {
        let page = page_of(&format!("{}/metrics", client.url())).await;
        cache_sizes(&page.unwrap_or_default())
    };
    let mut measured = Measurements {
        model: Some(found.id.clone()),
        block_size,
        num_blocks,
        max_model_len: found.max_model_len,
        ..Measurements::default()
    };
    let longest = found.max_model_len.unwrap_or(u32::MAX).saturating_sub(ANSWER);
    Asking { plan, client, model: &found.id, longest }.all(&mut measured).await?;
    measured.check()?;
    Ok(measured)
}

/// Block size and number of blocks, as vLLM's metrics tell them.
fn cache_sizes(page: &str) -> (Option<u32>, Option<u32>) {
    let family = FamilyName::new("vllm:cache_config_info").find(page.as_bytes(), 0);
    let told = family.and_then(|family| family.samples().find_map(Result::ok));
    let label = |name: &str| told?.labels.get(name)?.parse().ok().filter(|&n| n > 0);
    (label("block_size"), label("num_gpu_blocks"))
}

struct Asking<'a> {
    plan: &'a Plan,
    client: EngineClient,
    model: &'a str,
    /// The longest prompt.
    longest: u32,
}

impl Asking<'_> {
    async fn all(&self, measured: &mut Measurements) -> Result<(), String> {
        let fits = |tokens: &u32| *tokens <= self.longest;
        let lengths: Vec<u32> = self.plan.lengths.iter().copied().filter(fits).collect();
        let cached: Vec<u32> = CACHED_LENGTHS.into_iter().filter(fits).collect();
        let steps = lengths.len() + cached.len() * SHARES.len() + self.plan.concurrency.len() + 1;
        let bar = progress::bar(steps as u64, "asking the engine", self.plan.quiet);
        // Engines compile what they need when it is first needed.
        for _ in 0..3 {
            self.ask(&prompt(600.min(self.longest)), 8).await?;
        }
        for tokens in lengths {
            measured.cold.push(self.cold(tokens).await?);
            bar.inc(1);
        }
        for tokens in cached {
            for share in SHARES {
                measured.cached.push(self.cached(tokens, share).await?);
                bar.inc(1);
            }
        }
        let short = self.plan.concurrency.iter().map(|&n| (n, CONTEXT));
        for (concurrency, context) in short.chain([(LONG_CONTEXT_AT, LONG_CONTEXT)]) {
            let context = context.min(self.longest);
            measured.decode.extend(self.decode(concurrency, context).await?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn ask(&self, prompt: &[u32], output: u32) -> Result<Answer, String> {
        self.client.ask(self.model, &self.plan.json(prompt), output).await
    }

    async fn cold(&self, tokens: u32) -> Result<Cold, String> {
        let mut answers = Vec::new();
        for _ in 0..self.plan.repeat {
            answers.push(self.ask(&prompt(tokens), 2).await?);
        }
        let (tokens, _, ttft) = middle(&answers)?;
        Ok(Cold { tokens, ttft })
    }

    async fn cached(&self, tokens: u32, share: f64) -> Result<Cached, String> {
        let mut answers = Vec::new();
        for _ in 0..self.plan.repeat {
            let mut ids = prompt(tokens);
            self.ask(&ids, 2).await?;
            let shared = (f64::from(tokens) * share) as usize;
            ids.truncate(shared);
            ids.extend(prompt(tokens - shared as u32));
            answers.push(self.ask(&ids, 2).await?);
        }
        let (tokens, cached, ttft) = middle(&answers)?;
        Ok(Cached { tokens, cached, ttft })
    }

    /// `None` where the answers came in so few pieces that nothing can be said.
    async fn decode(&self, concurrency: u32, context: u32) -> Result<Option<Decode>, String> {
        let mut asked = JoinSet::new();
        for _ in 0..concurrency {
            let (client, model) = (self.client.clone(), self.model.to_owned());
            let asked_for = self.plan.json(&prompt(context));
            asked.spawn(async move { client.ask(&model, &asked_for, ANSWER).await });
        }
        let (mut gaps, mut ctx) = (Vec::new(), context);
        while let Some(answer) = asked.join_next().await {
            let answer = answer.map_err(|e| format!("a client failed: {e}"))??;
            gaps.extend(answer.gap);
            ctx = answer.prompt_tokens;
        }
        Ok(median(&mut gaps).map(|itl| Decode { concurrency, ctx, output: ANSWER, itl }))
    }
}

/// Prompt tokens, cached tokens and time to the first token, the middle of each.
fn middle(answers: &[Answer]) -> Result<(u32, f64, f64), String> {
    let of = |f: fn(&Answer) -> f64| {
        let mut all: Vec<f64> = answers.iter().map(f).collect();
        median(&mut all).ok_or_else(|| "nothing was asked".to_owned())
    };
    let tokens = of(|a| f64::from(a.prompt_tokens))?;
    Ok((tokens as u32, of(|a| f64::from(a.cached_tokens))?, of(|a| a.ttft)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_off_the_metrics() {
        let page = "# HELP vllm:cache_config_info x\nvllm:cache_config_info{block_size=\"16\",\
                    num_gpu_blocks=\"7281\",x=\"None\"} 1.0\n";
        assert_eq!(cache_sizes(page), (Some(16), Some(7281)));
        assert_eq!(cache_sizes("vllm:cache_config_info{block_size=\"None\"} 1"), (None, None));
        assert_eq!(cache_sizes(""), (None, None));
    }
}
