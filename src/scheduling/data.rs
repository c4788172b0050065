use smallvec::SmallVec;

/// Where one prefix producer leaves its result and its consumers find it. Claimed by name when
/// the configuration is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixSlot(pub usize);

/// How much of a request's prompt each candidate is believed to hold.
#[derive(Clone, Debug, Default)]
pub struct PrefixMatch {
    /// Matched blocks by candidate index.
    pub matched: Vec<u32>,
    /// Blocks of the prompt.
    pub total: u32,
    /// Bytes of prompt per block; 4 bytes are one pseudo-token.
    pub block_bytes: u32,
    /// The chained block hashes, kept until the pick is recorded.
    pub hashes: Vec<u64>,
    /// Where each prompt but the first begins in `hashes`.
    pub breaks: SmallVec<[u32; 2]>,
}

impl PrefixMatch {
    /// Matched share of the prompt, 0 to 1; 0 where nothing could be hashed.
    pub fn ratio(&self, candidate: u32) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        f64::from(self.blocks(candidate)) / f64::from(self.total)
    }

    /// Matched blocks of one candidate.
    pub fn blocks(&self, candidate: u32) -> u32 {
        self.matched.get(candidate as usize).copied().unwrap_or(0)
    }
}

/// What producers worked out for one request; plugins read it by slot.
#[derive(Clone, Debug, Default)]
pub struct RequestData {
    prefix: SmallVec<[Option<PrefixMatch>; 2]>,
    /// Tokens each candidate would have to work on for this request, by candidate index; filled
    /// by `inflight-load-producer`.
    pub uncached_tokens: Option<Vec<u32>>,
    /// `uncached_tokens` stand for the answer too, so they are held until it ends.
    pub tokens_until_end: bool,
    /// Tokens of the request's prompt; counted with `uncached_tokens`, 0 where nobody asked.
    pub prompt_tokens: u64,
}

impl RequestData {
    pub fn prefix(&self, slot: PrefixSlot) -> Option<&PrefixMatch> {
        self.prefix.get(slot.0)?.as_ref()
    }

    /// The result of the first prefix producer that had one.
    pub fn first_prefix(&self) -> Option<&PrefixMatch> {
        self.prefix.iter().flatten().next()
    }

    pub fn set_prefix(&mut self, slot: PrefixSlot, result: PrefixMatch) {
        if self.prefix.len() <= slot.0 {
            self.prefix.resize_with(slot.0 + 1, || None);
        }
        self.prefix[slot.0] = Some(result);
    }
}
