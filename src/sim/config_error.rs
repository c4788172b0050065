/// A configuration no engine can run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    #[error("{name} must be at most {max}")]
    TooLarge { name: &'static str, max: u32 },
    #[error(
        "max_num_batched_tokens ({batched}) must be at least max_num_seqs ({seqs}): every running sequence decodes one token a step"
    )]
    BudgetBelowSeqs { batched: u32, seqs: u32 },
    #[error(
        "a request of max_model_len ({model_len}) tokens does not fit into the {capacity} tokens of the KV cache"
    )]
    CacheBelowModelLen { model_len: u32, capacity: u64 },
    #[error("speed must be a number above 0, not {0}")]
    Speed(String),
    #[error("{0} must be a finite number that is not below 0")]
    Duration(&'static str),
    #[error("decode_step_ns must hold batch sizes in ascending order, the first of them 1")]
    DecodeSteps,
}
