/// One parameter of a plugin type, or one field of such a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    /// Empty where it has none.
    pub unit: &'static str,
    /// As it is written in YAML; `None`: what it stands for does not happen.
    pub default: Option<&'static str>,
    pub range: Range,
    /// The type cannot do without.
    pub is_required: bool,
    pub meaning: &'static str,
    pub status: Status,
    /// Other parameters that it needs or goes with, as a YAML mapping; empty: none.
    pub beside: &'static str,
    /// A value to show, in YAML, where no value can be told from the kind.
    pub example: Option<&'static str>,
}

/// What a value of a parameter is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Integer,
    Number,
    Boolean,
    /// Go's notation: `50ms`, `2m30s`.
    Duration,
    Text,
    /// The name of another plugin, which is of this kind.
    Plugin(&'static str),
    OneOf(&'static [&'static str]),
    Texts,
    /// Texts under keys of the user's choice.
    TextMap,
    /// Numbers under keys of the user's choice.
    NumberMap,
    Fields(&'static [Parameter]),
    Each(&'static [Parameter]),
    /// The fields of the type itself once more.
    Itself,
    /// Whatever it is, it is not looked at.
    Any,
}

impl Kind {
    /// As it stands in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "true or false",
            Self::Duration => "duration",
            Self::Text => "text",
            Self::Plugin(_) => "plugin name",
            Self::OneOf(_) => "one of",
            Self::Texts => "list of texts",
            Self::TextMap => "mapping of texts",
            Self::NumberMap => "mapping of numbers",
            Self::Fields(_) | Self::Itself => "mapping",
            Self::Each(_) => "list of mappings",
            Self::Any => "any",
        }
    }

    /// The fields of a mapping, or of each mapping of a list.
    pub fn fields(self) -> &'static [Parameter] {
        match self {
            Self::Fields(fields) | Self::Each(fields) => fields,
            _ => &[],
        }
    }
}

/// Where a number has to lie; beyond it the configuration is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    pub min: Option<Bound>,
    pub max: Option<Bound>,
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub value: f64,
    /// The value itself lies within.
    pub inclusive: bool,
}

/// Whether a parameter is one of today's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Current,
    /// Read for the sake of configurations of these versions.
    Older(&'static str),
    /// Accepted, and without effect here, for this reason.
    WithoutEffect(&'static str),
    /// The same, and the reference no longer takes it either.
    Dropped(&'static str),
}

impl Status {
    /// Why it has no effect, if it has none.
    pub fn without_effect(self) -> Option<&'static str> {
        match self {
            Self::WithoutEffect(why) | Self::Dropped(why) => Some(why),
            Self::Current | Self::Older(_) => None,
        }
    }
}

impl Parameter {
    const fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self {
            name,
            kind,
            unit: "",
            default: None,
            range: Range { min: None, max: None },
            is_required: false,
            meaning,
            status: Status::Current,
            beside: "",
            example: None,
        }
    }

    pub(super) const fn integer(name: &'static str, meaning: &'static str) -> Self {
        Self::new(name, Kind::Integer, meaning)
    }

    pub(super) const fn number(name: &'static str, meaning: &'static str) -> Self {
        Self::new(name, Kind::Number, meaning)
    }

    pub(super) const fn boolean(name: &'static str, meaning: &'static str) -> Self {
        Self::new(name, Kind::Boolean, meaning)
    }

    pub(super) const fn duration(name: &'static str, meaning: &'static str) -> Self {
        Self::new(name, Kind::Duration, meaning)
    }

    pub(super) const fn text(name: &'static str, meaning: &'static str) -> Self {
        Self::new(name, Kind::Text, meaning)
    }

    /// The name of a plugin of the kind `role`.
    pub(super) const fn plugin(
        name: &'static str,
        role: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self::new(name, Kind::Plugin(role), meaning)
    }

    pub(super) const fn one_of(
        name: &'static str,
        values: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        Self::new(name, Kind::OneOf(values), meaning)
    }

    pub(super) const fn texts(name: &'static str, meaning: &'static str) -> Self {
        Self::new(name, Kind::Texts, meaning)
    }

    pub(super) const fn of_kind(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self::new(name, kind, meaning)
    }

    pub(super) const fn fields(
        name: &'static str,
        fields: &'static [Self],
        meaning: &'static str,
    ) -> Self {
        Self::new(name, Kind::Fields(fields), meaning)
    }

    pub(super) const fn each(
        name: &'static str,
        fields: &'static [Self],
        meaning: &'static str,
    ) -> Self {
        Self::new(name, Kind::Each(fields), meaning)
    }

    pub(super) const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    pub(super) const fn default(mut self, yaml: &'static str) -> Self {
        self.default = Some(yaml);
        self
    }

    pub(super) const fn at_least(mut self, value: f64) -> Self {
        self.range.min = Some(Bound { value, inclusive: true });
        self
    }

    pub(super) const fn above(mut self, value: f64) -> Self {
        self.range.min = Some(Bound { value, inclusive: false });
        self
    }

    pub(super) const fn at_most(mut self, value: f64) -> Self {
        self.range.max = Some(Bound { value, inclusive: true });
        self
    }

    pub(super) const fn below(mut self, value: f64) -> Self {
        self.range.max = Some(Bound { value, inclusive: false });
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Of the versions of the reference that are named.
    pub(super) const fn older(mut self, versions: &'static str) -> Self {
        self.status = Status::Older(versions);
        self
    }

    pub(super) const fn without_effect(mut self, why: &'static str) -> Self {
        self.status = Status::WithoutEffect(why);
        self
    }

    pub(super) const fn dropped(mut self, why: &'static str) -> Self {
        self.status = Status::Dropped(why);
        self
    }

    /// Together with these other parameters.
    pub(super) const fn beside(mut self, yaml: &'static str) -> Self {
        self.beside = yaml;
        self
    }

    pub(super) const fn example(mut self, yaml: &'static str) -> Self {
        self.example = Some(yaml);
        self
    }

    /// `prefixMatchInfoProducerName`, which many types have.
    pub(super) const fn prefix_producer() -> Self {
        Self::plugin(
            "prefixMatchInfoProducerName",
            "prefix producer",
            "whose prefix matches are read; without it the default producer's",
        )
    }

    /// `inFlightLoadProducerName`, likewise.
    pub(super) const fn in_flight_producer() -> Self {
        Self::plugin(
            "inFlightLoadProducerName",
            "load producer",
            "whose token counts are read; without it the default producer's",
        )
    }

    /// `latencyPredictionInfoProducerName`, likewise.
    pub(super) const fn latency_producer() -> Self {
        Self::plugin(
            "latencyPredictionInfoProducerName",
            "latency predictor",
            "whose predictions are read; without it the default producer's",
        )
    }
}
