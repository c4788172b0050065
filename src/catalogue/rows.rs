use crate::plugins::{Bound, Kind, Parameter, Status};

/// A parameter and where it lies in the others, like `sessionIdConfig.sources[].header`.
pub(super) struct Row<'a> {
    pub path: String,
    pub parameter: &'a Parameter,
    /// What lies around it is no more than a heading, or is one of today's too.
    pub status: Status,
}

/// All parameters, each followed by those that lie in it.
pub(super) fn rows(parameters: &[Parameter]) -> Vec<Row<'_>> {
    let mut found = Vec::new();
    add(parameters, "", Status::Current, &mut found);
    found
}

fn add<'a>(parameters: &'a [Parameter], around: &str, status: Status, found: &mut Vec<Row<'a>>) {
    for parameter in parameters {
        let path = format!("{around}{}", parameter.name);
        // What lies in one of older versions is of older versions.
        let status = if status == Status::Current { parameter.status } else { status };
        let inside = match parameter.kind {
            Kind::Each(_) => format!("{path}[]."),
            _ => format!("{path}."),
        };
        found.push(Row { path, parameter, status });
        add(parameter.kind.fields(), &inside, status, found);
    }
}

impl Row<'_> {
    /// What a value is: `integer, at least 1, requests`.
    pub(super) fn value(&self) -> String {
        let p = self.parameter;
        let mut parts = vec![match p.kind {
            Kind::OneOf(names) => {
                let names: Vec<&str> = names.iter().copied().filter(|n| !n.is_empty()).collect();
                match names.split_last() {
                    Some((last, [])) => (*last).to_owned(),
                    Some((last, others)) => format!("{} or {last}", others.join(", ")),
                    None => String::new(),
                }
            }
            Kind::Plugin(role) => format!("name of a {role}"),
            kind => kind.name().to_owned(),
        }];
        parts.extend(self.range());
        if !p.unit.is_empty() {
            parts.push(p.unit.to_owned());
        }
        parts.join(", ")
    }

    /// `from 0 to 1`, `above 0`; `None` where any number will do.
    pub(super) fn range(&self) -> Option<String> {
        let low = |b: Bound| match b.inclusive {
            true => format!("at least {}", b.value),
            false => format!("above {}", b.value),
        };
        let high = |b: Bound| match b.inclusive {
            true => format!("at most {}", b.value),
            false => format!("below {}", b.value),
        };
        match (self.parameter.range.min, self.parameter.range.max) {
            (Some(min), Some(max)) if min.inclusive && max.inclusive => {
                Some(format!("from {} to {}", min.value, max.value))
            }
            (Some(min), Some(max)) => Some(format!("{}, {}", low(min), high(max))),
            (Some(min), None) => Some(low(min)),
            (None, Some(max)) => Some(high(max)),
            (None, None) => None,
        }
    }

    /// The default, `required`, or nothing.
    pub(super) fn default(&self) -> &'static str {
        match self.parameter.default {
            Some(default) => default,
            None if self.parameter.is_required => "required",
            None => "",
        }
    }

    /// What it means, and what there is to be said about it.
    pub(super) fn meaning(&self) -> String {
        let meaning = self.parameter.meaning;
        match self.parameter.status {
            Status::Current => meaning.to_owned(),
            Status::Older(versions) => format!("{meaning} (of {versions})"),
            Status::WithoutEffect(why) | Status::Dropped(why) => {
                format!("{meaning}; has no effect: {why}")
            }
        }
    }
}
