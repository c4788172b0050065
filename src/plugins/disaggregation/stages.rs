use std::sync::OnceLock;

use super::super::PluginPart;
use super::DisaggregationDecider;
use crate::config::{Placed, Severity, did_you_mean};
use crate::endpoints::ReservationTerms;
use crate::error::RequestError;
use crate::headers::{ENCODERS, PREFILLER};
use crate::scheduling::{
    Cycle, Directions, ProfileMistake, ProfileResult, ProfilesToRun, TokenLoad,
};

/// Which stage is chosen first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plugins) enum Order {
    #[default]
    DecodeFirst,
    PrefillFirst,
}

/// A stage by the name of its profile, and who says whether it is run.
#[derive(Debug)]
pub(in crate::plugins) struct Stage {
    /// The profile's name; `field` is empty where it is the default.
    profile: Placed<String>,
    decider: Option<PluginPart<dyn DisaggregationDecider>>,
}

/// The stages of a request: decode, which always is, prefill and encode, which may be.
#[derive(Debug)]
pub(in crate::plugins) struct Stages {
    order: Order,
    decode: Placed<String>,
    prefill: Stage,
    encode: Stage,
    indices: OnceLock<Indices>,
}

/// The stages' profiles by index.
#[derive(Clone, Copy, Debug, Default)]
struct Indices {
    decode: usize,
    prefill: Option<usize>,
    encode: Option<usize>,
}

/// The name of a stage's profile that is not given.
fn or_default(given: Option<Placed<&str>>, default: &str) -> Placed<String> {
    match given {
        Some(given) => given.map(str::to_owned),
        None => Placed { value: default.to_owned(), at: None, field: String::new() },
    }
}

impl Stages {
    pub(crate) fn new(
        order: Order,
        [decode, prefill, encode]: [Option<Placed<&str>>; 3],
        prefill_decider: Option<PluginPart<dyn DisaggregationDecider>>,
        encode_decider: Option<PluginPart<dyn DisaggregationDecider>>,
    ) -> Self {
        Self {
            order,
            decode: or_default(decode, "decode"),
            prefill: Stage { profile: or_default(prefill, "prefill"), decider: prefill_decider },
            encode: Stage { profile: or_default(encode, "encode"), decider: encode_decider },
            indices: OnceLock::new(),
        }
    }

    /// Finds the stages among the profiles.
    ///
    /// # Errors
    /// A decode profile that is not there, or another one that is asked for by name; a warning
    /// for a stage that is never run.
    pub(crate) fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>> {
        let find = |name: &Placed<String>| profiles.iter().position(|p| **p == *name.value);
        let mut mistakes = Vec::new();
        let decode = find(&self.decode);
        if decode.is_none() {
            mistakes.push(missing(&self.decode, profiles, Severity::Error));
        }
        let mut optional = |stage: &Stage, decided: bool| {
            let found = find(&stage.profile);
            match found {
                None if !stage.profile.field.is_empty() => {
                    mistakes.push(missing(&stage.profile, profiles, Severity::Warning));
                }
                Some(_) if decided && stage.decider.is_none() => mistakes.push(ProfileMistake {
                    severity: Severity::Warning,
                    ..ProfileMistake::of_handler(format!(
                        "profile '{}' never runs: no decider is named for it",
                        stage.profile.value
                    ))
                }),
                _ => {}
            }
            found
        };
        let prefill = optional(&self.prefill, self.order == Order::DecodeFirst);
        let encode = optional(&self.encode, true);
        let indices = Indices { decode: decode.unwrap_or_default(), prefill, encode };
        // Bound once, when the configuration is loaded.
        _ = self.indices.set(indices);
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    fn indices(&self) -> Indices {
        self.indices.get().copied().unwrap_or_default()
    }

    /// The profiles to run next. A stage that yields nothing is gone without, but for decode.
    pub(crate) fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun {
        let at = self.indices();
        let ran = |profile: usize| cycle.results.get(profile).is_some();
        let run = |profile: usize| ProfilesToRun::from_slice(&[profile]);
        let is_wanted = |stage: &Stage, profile: Option<usize>, decode: Option<u32>| {
            let profile = profile.filter(|&p| !ran(p))?;
            let decider = stage.decider.as_ref()?.get()?;
            decider.disaggregates(cycle, decode).then_some(profile)
        };
        if self.order == Order::PrefillFirst {
            if let Some(prefill) = at.prefill.filter(|&p| !ran(p)) {
                return run(prefill);
            }
            if ran(at.decode) {
                return ProfilesToRun::new();
            }
            return run(is_wanted(&self.encode, at.encode, None).unwrap_or(at.decode));
        }
        if !ran(at.decode) {
            return run(at.decode);
        }
        let Some(decode) = cycle.results.target(at.decode) else { return ProfilesToRun::new() };
        let encode = is_wanted(&self.encode, at.encode, Some(decode));
        let next = encode.or_else(|| is_wanted(&self.prefill, at.prefill, Some(decode)));
        next.map(run).unwrap_or_default()
    }

    /// The endpoint that a stage to be run now will work with: decode's where that is chosen first,
    /// else prefill's.
    pub(crate) fn peer(&self, cycle: &Cycle<'_>) -> Option<u32> {
        let at = self.indices();
        match self.order {
            Order::DecodeFirst => cycle.results.target(at.decode),
            Order::PrefillFirst => cycle.results.target(at.prefill?),
        }
    }

    /// The decode profile, where it chose an endpoint.
    ///
    /// # Errors
    /// 503 where no decode endpoint exists, 429 where all are busy.
    pub(crate) fn primary(&self, cycle: &Cycle<'_>) -> Result<usize, RequestError> {
        let decode = self.indices().decode;
        let result = cycle.results.get(decode);
        if result.and_then(ProfileResult::target).is_none() {
            return Err(super::no_decode_endpoint(result.is_some_and(|r| r.none_exists)));
        }
        Ok(decode)
    }

    /// Whether there is an encode and a prefill stage.
    pub(crate) fn ran(&self, cycle: &Cycle<'_>) -> (bool, bool) {
        let at = self.indices();
        let has =
            |profile: Option<usize>| profile.is_some_and(|p| cycle.results.target(p).is_some());
        (has(at.encode), has(at.prefill))
    }

    /// Sets the headers by which a sidecar finds the stages' endpoints.
    pub(crate) fn set_headers(&self, cycle: &Cycle<'_>, directions: &mut Directions) {
        let at = self.indices();
        let result = |profile: Option<usize>| cycle.results.get(profile?);
        set_stage_headers(cycle, result(at.prefill), result(at.encode), directions);
    }

    /// Encoders see media alone.
    pub(crate) fn holds_prompt(&self, profile: usize) -> bool {
        self.indices().encode != Some(profile)
    }

    /// What a request holds on a stage's endpoint: its prompt where that is computed, until the
    /// answer begins; its answer where that is made.
    pub(crate) fn reserve(
        &self,
        cycle: &Cycle<'_>,
        profile: usize,
        terms: ReservationTerms,
    ) -> ReservationTerms {
        let at = self.indices();
        let (_, prefilled) = self.ran(cycle);
        let output = cycle.data.first::<TokenLoad>().map_or(0, |load| load.output);
        if at.encode == Some(profile) {
            ReservationTerms { until_answer: true, ..ReservationTerms::default() }
        } else if at.prefill == Some(profile) {
            let tokens = terms.tokens.saturating_sub(output);
            ReservationTerms { tokens, until_answer: true, ..terms }
        } else if prefilled {
            ReservationTerms { tokens: output, ..terms }
        } else {
            terms
        }
    }
}

/// A profile that is not there. One that is not named by the configuration is the handler's
/// default, so the mistake is the handler's.
fn missing(name: &Placed<String>, profiles: &[&str], severity: Severity) -> ProfileMistake {
    let hint = did_you_mean(&name.value, profiles.iter().copied());
    let message = format!("no scheduling profile is called '{}'{hint}", name.value);
    let field = (!name.field.is_empty()).then(|| name.field.clone());
    ProfileMistake { severity, at: name.at, field, message }
}

/// The headers that llm-d's sidecar reads: `x-prefiller-host-port`, the endpoint that computes the
/// prompt, and `x-encoder-hosts-ports`, all that encode media (llm-d-router main at ebab6879).
pub(in crate::plugins) fn set_stage_headers(
    cycle: &Cycle<'_>,
    prefill: Option<&ProfileResult>,
    encode: Option<&ProfileResult>,
    directions: &mut Directions,
) {
    let host_port = |candidate: u32| &*cycle.candidates[candidate as usize].endpoint.host_port;
    if let Some(prefill) = prefill.and_then(ProfileResult::target) {
        directions.set_header(PREFILLER, host_port(prefill).to_owned());
    }
    let encoders: Vec<&str> =
        encode.iter().flat_map(|result| &result.picks).map(|&c| host_port(c)).collect();
    if !encoders.is_empty() {
        directions.set_header(ENCODERS, encoders.join(","));
    }
}
