//! Kubernetes label selectors: which endpoints are meant, by their labels.

use crate::endpoints::Labels;

/// A worker must meet all requirements; with none, every worker does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LabelSelector(pub Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.is_met(labels))
    }

    /// Reads the form that `kubectl` takes: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        loop {
            let (requirement, after) = read_requirement(rest)?;
            check_key(&requirement.key)?;
            requirement.values.iter().try_for_each(|value| check_value(value))?;
            requirements.push(requirement);
            rest = after.trim_start();
            if rest.is_empty() {
                return Ok(Self(requirements));
            }
            let Some(next) = rest.strip_prefix(',') else {
                return Err(format!("expected ',' before '{rest}'"));
            };
            rest = next.trim_start();
        }
    }
}

/// One requirement, and what follows it.
fn read_requirement(text: &str) -> Result<(Requirement, &str), String> {
    let negated = text.strip_prefix('!');
    let (key, rest) = word(negated.unwrap_or(text).trim_start());
    let of = |operator, values| Requirement { key: key.to_owned(), operator, values };
    let rest = rest.trim_start();
    if negated.is_some() {
        return Ok((of(Operator::DoesNotExist, Vec::new()), rest));
    }
    let equals = [("!=", Operator::NotIn), ("==", Operator::In), ("=", Operator::In)];
    if let Some((sign, operator)) = equals.into_iter().find(|(sign, _)| rest.starts_with(sign)) {
        let (value, rest) = word(rest[sign.len()..].trim_start());
        return Ok((of(operator, vec![value.to_owned()]), rest));
    }
    let (name, after) = word(rest);
    let operator = match name {
        "in" => Operator::In,
        "notin" => Operator::NotIn,
        _ => return Ok((of(Operator::Exists, Vec::new()), rest)),
    };
    let list = after.trim_start().strip_prefix('(').and_then(|list| list.split_once(')'));
    let Some((values, rest)) = list else {
        return Err(format!("expected a list in parentheses after '{name}'"));
    };
    let values = values.split(',').map(|value| value.trim().to_owned()).collect();
    Ok((of(operator, values), rest))
}

/// What stands before the next sign or blank.
fn word(text: &str) -> (&str, &str) {
    let is_end = |c: char| c.is_whitespace() || "=!,()".contains(c);
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

/// A label's key: a name of up to 63 characters, before it maybe a DNS name and a slash.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_label_text(name, 63, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!(
            "'{key}' is no label key: its name must be 1 to 63 letters, digits, '-', '_' or '.', \
             beginning and ending with a letter or digit"
        ));
    }
    let is_dns = |p: &str| {
        p.len() <= 253
            && p.split('.').all(|part| {
                is_label_text(part, 253, |c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
                })
            })
    };
    match prefix {
        Some(p) if !is_dns(p) => {
            Err(format!("'{key}' is no label key: what stands before '/' must be a DNS name"))
        }
        _ => Ok(()),
    }
}

/// A label's value: empty, or like a key's name.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if value.is_empty() || is_label_text(value, 63, allowed) {
        return Ok(());
    }
    Err(format!(
        "'{value}' is no label value: it must be up to 63 letters, digits, '-', '_' or '.', \
         beginning and ending with a letter or digit"
    ))
}

fn is_label_text(text: &str, max: usize, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

impl Requirement {
    /// As in Kubernetes, a worker without the label meets `NotIn`.
    fn is_met(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_of_kubectl() {
        let worker: Labels =
            [("app", "vllm"), ("tier", "")].map(|(k, v)| (k.into(), v.into())).into();
        let cases = [
            ("app=vllm", Ok(true)),
            (" app == vllm ", Ok(true)),
            ("app=sglang", Ok(false)),
            ("app!=sglang", Ok(true)),
            ("role!=x", Ok(true)),
            ("app in (a, vllm)", Ok(true)),
            ("app notin (a,vllm)", Ok(false)),
            ("role notin (a)", Ok(true)),
            ("app", Ok(true)),
            ("role", Ok(false)),
            ("!role, app=vllm", Ok(true)),
            ("! app", Ok(false)),
            ("tier=", Ok(true)),
            ("example.com/app,app", Ok(false)),
            ("", Err("is no label key")),
            ("app=vllm,", Err("is no label key")),
            ("=x", Err("is no label key")),
            ("app in a", Err("expected a list")),
            ("app in (a", Err("expected a list")),
            ("app=a b", Err("expected ','")),
            ("app=-", Err("is no label value")),
            ("Ä=b", Err("is no label key")),
        ];
        for (text, expected) in cases {
            match (LabelSelector::parse(text), expected) {
                (Ok(selector), Ok(matches)) => {
                    assert_eq!(selector.matches(&worker), matches, "{text}")
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[a-c=!,() ]{0,20}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
