//! Sees to it that what plugins need of each other is there.

use super::document::did_you_mean;
use super::instances::{Instance, Instances};
use crate::config::{Placed, Severity};
use crate::plugins::{DataSlot, Lack};

/// Adds the producers that plugins require and the configuration does not have, and reports
/// names that are none.
pub(super) fn complete_producers(instances: &mut Instances<'_>) {
    // A producer that is added may require another one.
    while let Some(plugin_type) = missing_default(instances) {
        if instances.add(plugin_type, None).is_none() {
            return;
        }
    }
    for slot in instances.dependencies.data().iter().filter(|s| s.provided_by.is_none()) {
        let Some(reader) = slot.readers.iter().find(|r| r.required) else { continue };
        let asking = &instances.list[reader.plugin];
        let Some(message) = complaint(slot, instances) else { continue };
        let named = slot.readers.iter().filter_map(|r| r.named.as_ref());
        let mut places: Vec<_> = named.map(|(at, field)| (*at, field.as_str())).collect();
        if places.is_empty() {
            places.push((asking.at, asking.path.as_str()));
        }
        for (at, field) in places {
            instances.diagnostics.error(at, field, &message);
        }
    }
}

/// The type of a default producer that is required and not there.
fn missing_default(instances: &Instances<'_>) -> Option<&'static str> {
    let mut slots: Vec<_> = instances.dependencies.data().iter().collect();
    // Whichever places they have: those that were spoken of first are added first.
    slots.sort_by_key(|slot| slot.spoken_of);
    slots.into_iter().find_map(|slot| {
        let name = slot.default_producer?;
        let wanted = slot.provided_by.is_none()
            && slot.producer == name
            && slot.readers.iter().any(|r| r.required);
        let vacant = instances.find(name).is_none() && !instances.is_broken(name);
        (wanted && vacant).then_some(name)
    })
}

/// What is wrong with the name of a producer; `None` where that was reported already.
fn complaint(slot: &DataSlot, instances: &Instances<'_>) -> Option<String> {
    let (name, kind) = (slot.producer.as_str(), slot.kind);
    if name.is_empty() {
        return Some(format!("needs a {kind}, which no plugin of this configuration is"));
    }
    if instances.is_broken(name) {
        return None;
    }
    Some(match instances.find(name).map(|index| &instances.list[index]) {
        Some(Instance { plugin_type, .. }) => {
            format!("plugin '{name}' of type '{plugin_type}' is not a {kind}")
        }
        None => {
            let data = instances.dependencies.data();
            let producers = data.iter().filter(|s| s.kind == kind).filter_map(|s| s.provided_by);
            let names = producers.map(|i| instances.list[i].name.as_str());
            format!("no plugin is called '{name}'{}", did_you_mean(name, names))
        }
    })
}

/// Gives plugins the parts of others that they are told to use, and reports what is none.
pub(super) fn bind_references(instances: &mut Instances<'_>) {
    let mut used = Vec::new();
    for reference in instances.dependencies.references() {
        let (name, role) = (&reference.name.value, reference.role);
        let severity = match reference.lack {
            Lack::Warned => Severity::Warning,
            Lack::Mistake | Lack::Allowed => Severity::Error,
        };
        let report = |message: String| {
            let Placed { at, field, .. } = &reference.name;
            instances.diagnostics.add(severity, *at, field, message);
        };
        match instances.find(name) {
            Some(index) if (reference.bind)(&instances.list[index].capabilities) => {
                used.push(index);
            }
            Some(index) => {
                let plugin_type = instances.list[index].plugin_type;
                report(format!("plugin '{name}' of type '{plugin_type}' is not a {role}"));
            }
            None if reference.lack == Lack::Allowed || instances.is_broken(name) => {}
            None => report(format!("no plugin is called '{name}'{}", instances.hint_for(name))),
        }
    }
    for index in used {
        instances.list[index].used = true;
    }
}
