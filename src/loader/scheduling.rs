use std::collections::BTreeSet;
use std::sync::Arc;

use super::document::{Document, ProfileEntry, did_you_mean};
use super::instances::{Instance, Instances};
use crate::config::{Position, Value};
use crate::plugins::{
    DEFAULT_IN_FLIGHT_PRODUCER, DEFAULT_PREFIX_PRODUCER, IN_FLIGHT_PRODUCER_NAME,
    PREFIX_PRODUCER_NAME,
};
use crate::scheduling::{Picker, Profile, ProfileHandler, Scheduler, WeightedScorer};

const DEFAULT_PICKER: &str = "max-score-picker";
const DEFAULT_HANDLER: &str = "single-profile-handler";
/// What a configuration has under its type's name without listing it, beside the picker.
const DEFAULTED: [&str; 2] = [DEFAULT_HANDLER, "utilization-detector"];
/// The name of the profile that defaulting makes.
const DEFAULT_PROFILE: &str = "default";

/// A profile by the indices of its plugins.
#[derive(Debug)]
pub(super) struct ProfilePlan {
    pub name: String,
    /// In the order of the document, the default picker last.
    pub plugins: Vec<(usize, Option<f64>)>,
}

/// Works out which plugins every profile has, with the defaulting of llm-d-router main at
/// ebab6879: where that takes a plugin in no certain order, the configuration's order counts.
pub(super) fn plan_profiles(
    document: &Document<'_>,
    instances: &mut Instances<'_>,
) -> Vec<ProfilePlan> {
    let configured = instances.list.len();
    let picker = instances
        .first(|i| i.roles.picker.is_some())
        .or_else(|| instances.default_of(DEFAULT_PICKER));
    if document.profiles.is_empty() {
        let plugins: Vec<_> = (0..configured)
            .chain(picker.filter(|p| *p >= configured))
            .filter(|i| instances.list[*i].is_for_profiles())
            .collect();
        for &index in &plugins {
            instances.list[index].used = true;
        }
        let plugins = plugins.into_iter().map(|i| (i, None)).collect();
        let plan = ProfilePlan { name: DEFAULT_PROFILE.to_owned(), plugins };
        check_pickers(&plan, None, "schedulingProfiles", instances);
        return vec![plan];
    }
    let mut plans: Vec<ProfilePlan> = Vec::new();
    for entry in &document.profiles {
        if !entry.name.is_empty() && plans.iter().any(|p| p.name == entry.name) {
            let message = format!("two profiles are called '{}'", entry.name);
            instances.diagnostics.error(entry.at, &format!("{}.name", entry.path), message);
        }
        plans.push(plan_profile(entry, picker, instances));
    }
    plans
}

fn plan_profile(
    entry: &ProfileEntry,
    default_picker: Option<usize>,
    instances: &mut Instances<'_>,
) -> ProfilePlan {
    let mut plan = ProfilePlan { name: entry.name.clone(), plugins: Vec::new() };
    for plugin in &entry.plugins {
        // A profile may name what defaulting adds for every configuration.
        if DEFAULTED.contains(&plugin.reference.name.as_str())
            && instances.find(&plugin.reference.name).is_none()
            && !instances.is_broken(&plugin.reference.name)
        {
            instances.add_at(&plugin.reference.name, &plugin.reference);
        }
        let Some(index) = instances.resolve(&plugin.reference) else { continue };
        let Instance { name, roles, .. } = &instances.list[index];
        let (at, path) = (plugin.reference.at, &plugin.reference.path);
        if !instances.list[index].is_for_profiles() {
            let message = format!("plugin '{name}' has no effect here: it is no part of a profile");
            instances.diagnostics.warning(at, path, message);
        } else if plugin.weight.is_some() && roles.scorer.is_none() {
            let message = format!("the weight has no effect: plugin '{name}' is not a scorer");
            instances.diagnostics.warning(at, path, message);
        }
        instances.list[index].used |= instances.list[index].is_for_profiles();
        plan.plugins.push((index, plugin.weight));
    }
    if !check_pickers(&plan, entry.at, &entry.path, instances)
        && let Some(picker) = default_picker
    {
        instances.list[picker].used = true;
        plan.plugins.push((picker, None));
    }
    plan
}

/// True where the profile has a picker; reports a second one.
fn check_pickers(
    plan: &ProfilePlan,
    at: Option<Position>,
    path: &str,
    instances: &Instances<'_>,
) -> bool {
    let is_picker = |i: &&(usize, Option<f64>)| instances.list[i.0].roles.picker.is_some();
    let names: Vec<_> = plan
        .plugins
        .iter()
        .filter(is_picker)
        .map(|(i, _)| format!("'{}'", instances.list[*i].name))
        .collect();
    if names.len() > 1 {
        let message =
            format!("profile '{}' has {} pickers: {}", plan.name, names.len(), names.join(", "));
        instances.diagnostics.error(at, path, message);
    }
    !names.is_empty()
}

/// The one profile handler; `single-profile-handler` is added where one profile has none.
pub(super) fn choose_handler(
    profiles: usize,
    instances: &mut Instances<'_>,
) -> Option<Arc<dyn ProfileHandler>> {
    let is_handler = |i: &Instance| i.roles.profile_handler.is_some();
    let mut index = instances.first(is_handler);
    let handlers: Vec<_> = instances.list.iter().filter(|i| is_handler(i)).collect();
    if let [first, second, ..] = handlers.as_slice() {
        let message = format!("there is a profile handler already, '{}'", first.name);
        instances.diagnostics.error(second.at, &second.path, message);
        return None;
    }
    if index.is_none() && !instances.has_broken() {
        if profiles != 1 {
            let message = format!(
                "{profiles} profiles need a profile handler among the plugins that says which run"
            );
            instances.diagnostics.error(None, "schedulingProfiles", message);
            return None;
        }
        index = instances.default_of(DEFAULT_HANDLER);
    }
    let instance = &instances.list[index?];
    let handler = instance.roles.profile_handler.clone()?;
    if let Err(message) = handler.check_profiles(profiles) {
        instances.diagnostics.error(instance.at, &instance.path, message);
    }
    Some(handler)
}

/// Adds the producers that plugins ask for and the configuration does not list, and reports
/// asked-for names that are none.
pub(super) fn complete_producers(instances: &mut Instances<'_>) {
    let is_in_flight = |i: &Instance| i.plugin_type == DEFAULT_IN_FLIGHT_PRODUCER;
    if instances.links.wants_in_flight() && instances.first(is_in_flight).is_none() {
        instances.default_of(DEFAULT_IN_FLIGHT_PRODUCER);
    }
    let named: Vec<String> = instances.links.in_flight_producers().map(str::to_owned).collect();
    for name in named.iter().filter(|name| *name != DEFAULT_IN_FLIGHT_PRODUCER) {
        check_asked(
            instances,
            name,
            IN_FLIGHT_PRODUCER_NAME,
            "producer of what is in flight",
            is_in_flight,
        );
    }
    let asked: BTreeSet<String> = instances.links.prefix_producers().map(str::to_owned).collect();
    for name in asked {
        if name == DEFAULT_PREFIX_PRODUCER
            && instances.find(&name).is_none()
            && !instances.is_broken(&name)
        {
            instances.default_of(DEFAULT_PREFIX_PRODUCER);
        }
        check_asked(instances, &name, PREFIX_PRODUCER_NAME, "prefix producer", |i| {
            i.roles.is_prefix_producer
        });
    }
}

/// Reports a name that plugins give for a producer and no producer of that kind has.
fn check_asked(
    instances: &Instances<'_>,
    name: &str,
    parameter: &str,
    kind: &str,
    is_one: impl Fn(&Instance) -> bool,
) {
    let message = match instances.find(name).map(|index| &instances.list[index]) {
        Some(found) if is_one(found) => return,
        None if instances.is_broken(name) => return,
        Some(found) => {
            format!("plugin '{name}' of type '{}' is not a {kind}", found.plugin_type)
        }
        None => {
            let producers = instances.list.iter().filter(|i| is_one(i));
            let near = did_you_mean(name, producers.map(|i| i.name.as_str()));
            format!("no plugin is called '{name}'{near}")
        }
    };
    report_asked(instances, name, parameter, &message);
}

/// Reports a mistake in the name of a producer, wherever a plugin's parameters have it.
fn report_asked(instances: &Instances<'_>, name: &str, parameter: &str, message: &str) {
    for instance in &instances.list {
        let Some(Value::Map(entries)) = instance.parameters.as_ref().map(|p| &p.value) else {
            continue;
        };
        for (key, node) in entries {
            if key.name.eq_ignore_ascii_case(parameter) && node.as_str() == Some(name) {
                let field = format!("{}.parameters.{}", instance.path, key.name);
                instances.diagnostics.error(Some(node.at), &field, message);
            }
        }
    }
}

/// Puts the parts together. `None` where one is missing, which was reported.
pub(super) fn build_scheduler(
    plans: &[ProfilePlan],
    handler: Option<Arc<dyn ProfileHandler>>,
    instances: &Instances<'_>,
) -> Option<Scheduler> {
    let profiles = plans.iter().map(|p| build_profile(p, instances)).collect::<Option<Vec<_>>>()?;
    let mut producers: Vec<_> =
        instances.list.iter().filter_map(|i| i.roles.producer.clone()).collect();
    producers.sort_by_key(|p| p.stage());
    let observers = instances.list.iter().filter_map(|i| i.roles.observer.clone()).collect();
    Some(Scheduler { profiles, handler: handler?, producers, observers })
}

fn build_profile(plan: &ProfilePlan, instances: &Instances<'_>) -> Option<Profile> {
    let mut filters = Vec::new();
    let mut scorers = Vec::new();
    let mut picker: Option<Arc<dyn Picker>> = None;
    for &(index, weight) in &plan.plugins {
        let Instance { name, roles, .. } = &instances.list[index];
        filters.extend(roles.filter.clone().map(|filter| (name.clone(), filter)));
        scorers.extend(roles.scorer.clone().map(|scorer| WeightedScorer {
            name: name.clone(),
            scorer,
            weight: weight.unwrap_or(1.0),
        }));
        picker = picker.or_else(|| roles.picker.clone());
    }
    Some(Profile { name: plan.name.clone(), filters, scorers, picker: picker? })
}
