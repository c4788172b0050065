use super::document::did_you_mean;
use super::instances::Instances;
use super::reference::Reference;
use crate::plugins::{self, ParserKind};

/// The parsers of a configuration that lists none (llm-d-router main at ebab6879).
const DEFAULT_PARSERS: [&str; 4] =
    ["openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser"];

/// The parsers in their order. One that `plugins` does not list is made by its type's name; a
/// second one of a kind is left out, as in the reference.
pub(super) fn plan_parsers(
    references: &[Reference],
    instances: &mut Instances<'_>,
) -> Vec<(usize, ParserKind)> {
    let mut parsers: Vec<(usize, ParserKind)> = Vec::new();
    if references.is_empty() {
        for name in DEFAULT_PARSERS {
            let configured = instances.first(|i| i.plugin_type == name);
            let Some(index) = configured.or_else(|| instances.add(name, None)) else { continue };
            instances.list[index].used = true;
            let kind = instances.list[index].capabilities.get::<ParserKind>();
            parsers.extend(kind.map(|kind| (index, **kind)));
        }
        return parsers;
    }
    for reference in references {
        let name = &reference.name;
        if instances.find(name).is_none() && !instances.is_broken(name) {
            if plugins::find(name).is_none() && !super::reference_types::is_known(name) {
                let types = plugins::type_names().filter(|t| t.ends_with("-parser"));
                let message = format!("no parser is called '{name}'{}", did_you_mean(name, types));
                instances.diagnostics.error(reference.at, &reference.path, message);
                continue;
            }
            instances.add_at(name, reference);
        }
        let found = instances.resolve_part::<ParserKind>(reference, "parser");
        let Some((index, kind)) = found.map(|(index, kind)| (index, *kind)) else { continue };
        if let Some((first, _)) = parsers.iter().find(|(_, k)| *k == kind) {
            let message = format!(
                "plugin '{name}' has no effect: '{}' comes first",
                instances.list[*first].name
            );
            instances.diagnostics.warning(reference.at, &reference.path, message);
            continue;
        }
        parsers.push((index, kind));
    }
    parsers
}
