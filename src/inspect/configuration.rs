use serde::Serialize;
use serde_yaml::Value as Yaml;

/// The configuration in force, line by line, with what the document does not say marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigView {
    /// What the document is called: its file, or the flag.
    pub source: String,
    pub lines: Vec<ConfigLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigLine {
    pub text: String,
    /// It is not in the document: it is a default.
    pub default: bool,
}

impl ConfigView {
    /// Of the document called `source`, whose text is `given` and which means `effective`; both
    /// YAML. A value counts as given where the document has it under the name of today.
    pub fn new(source: &str, given: Option<&str>, effective: &str) -> Self {
        let read = |text: &str| serde_yaml::from_str::<Yaml>(text).unwrap_or(Yaml::Null);
        let given = given.map(read).unwrap_or(Yaml::Null);
        let mut lines = Vec::new();
        write(&read(effective), Some(&given), 0, "", &mut lines);
        Self { source: source.to_owned(), lines }
    }
}

/// Adds the lines of `value`, the first of them behind `lead`.
fn write(value: &Yaml, given: Option<&Yaml>, depth: usize, lead: &str, to: &mut Vec<ConfigLine>) {
    let pad = "  ".repeat(depth);
    match value {
        Yaml::Mapping(map) => {
            for (at, (key, value)) in map.iter().enumerate() {
                let given = given.and_then(|given| given.get(key));
                let lead = if at == 0 && !lead.is_empty() { lead } else { pad.as_str() };
                entry(&format!("{lead}{}:", scalar(key)), value, given, depth, to);
            }
        }
        Yaml::Sequence(items) => {
            for item in items {
                let given = given.and_then(|given| same(item, given));
                write(item, given, depth + 1, &format!("{pad}- "), to);
            }
        }
        other => {
            let default = given.is_none_or(Yaml::is_null);
            to.push(ConfigLine { text: format!("{lead}{}", scalar(other)), default });
        }
    }
}

fn entry(head: &str, value: &Yaml, given: Option<&Yaml>, depth: usize, to: &mut Vec<ConfigLine>) {
    let default = given.is_none();
    match value {
        Yaml::Mapping(map) if !map.is_empty() => {
            to.push(ConfigLine { text: head.to_owned(), default });
            write(value, given, depth + 1, "", to);
        }
        Yaml::Sequence(items) if !items.is_empty() => {
            to.push(ConfigLine { text: head.to_owned(), default });
            write(value, given, depth, "", to);
        }
        other => to.push(ConfigLine { text: format!("{head} {}", scalar(other)), default }),
    }
}

/// The item of the document that this one is: of the same name, reference or type, or equal.
fn same<'a>(item: &Yaml, given: &'a Yaml) -> Option<&'a Yaml> {
    let named = |item: &Yaml| {
        ["name", "pluginRef", "type", "priority"].iter().find_map(|key| item.get(key).cloned())
    };
    let name = named(item);
    given.as_sequence()?.iter().find(|other| match &name {
        Some(name) => named(other).as_ref() == Some(name),
        None => *other == item,
    })
}

/// As YAML has it on one line.
fn scalar(value: &Yaml) -> String {
    let text = serde_yaml::to_string(value).unwrap_or_default();
    let text = text.trim_end();
    if text.contains('\n') { format!("{text:?}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::PoolIds;
    use crate::loader::{LoadOptions, load};

    fn view(given: Option<&str>) -> ConfigView {
        let (pipeline, found) = load("c", given, &LoadOptions::default(), &PoolIds::default());
        let effective = pipeline.unwrap_or_else(|| panic!("{found}")).effective.to_yaml().unwrap();
        let view = ConfigView::new("c", given, &effective);
        let text: String = view.lines.iter().map(|l| format!("{}\n", l.text)).collect();
        let read = |text: &str| serde_yaml::from_str::<Yaml>(text).unwrap();
        assert_eq!(read(&text), read(&effective), "{text}");
        view
    }

    #[test]
    fn what_the_document_does_not_say_is_marked() {
        let given = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- {type: prefix-cache-scorer, name: mine}
schedulingProfiles:
- name: p
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - pluginRef: mine
";
        let view = view(Some(given));
        let is_default = |text: &str| {
            let lines: Vec<_> = view.lines.iter().filter(|l| l.text.trim() == text).collect();
            assert_eq!(lines.len(), 1, "{text}: {view:#?}");
            lines[0].default
        };
        for (line, default) in [
            ("kind: EndpointPickerConfig", false),
            ("- type: queue-scorer", false),
            ("name: mine", false),
            ("weight: 2", false),
            ("weight: 1", true),
            ("- name: p", false),
            ("- type: max-score-picker", true),
            ("- pluginRef: max-score-picker", true),
            ("requestHandler:", true),
        ] {
            assert_eq!(is_default(line), default, "{line}");
        }
    }

    #[test]
    fn without_a_document_everything_is_a_default() {
        assert!(view(None).lines.iter().all(|line| line.default));
    }
}
