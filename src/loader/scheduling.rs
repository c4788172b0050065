use std::sync::Arc;

use super::document::{Document, ProfileEntry};
use super::instances::{Instance, Instances};
use super::measured::Measured;
use crate::config::{Position, Severity};
use crate::scheduling::{
    Filter, Picker, Producer, Profile, ProfileHandler, Scheduler, Scorer, WeightedScorer, point,
};

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
    let picker =
        instances.first_with::<dyn Picker>().or_else(|| instances.default_of(DEFAULT_PICKER));
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
        let Instance { name, capabilities, .. } = &instances.list[index];
        let (at, path) = (plugin.reference.at, &plugin.reference.path);
        if !instances.list[index].is_for_profiles() {
            let message = format!("plugin '{name}' has no effect here: it is no part of a profile");
            instances.diagnostics.warning(at, path, message);
        } else if plugin.weight.is_some() && !capabilities.has::<dyn Scorer>() {
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
    let is_picker =
        |i: &&(usize, Option<f64>)| instances.list[i.0].capabilities.has::<dyn Picker>();
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
    plans: &[ProfilePlan],
    instances: &mut Instances<'_>,
) -> Option<Arc<dyn ProfileHandler>> {
    let is_handler = |i: &Instance| i.capabilities.has::<dyn ProfileHandler>();
    let mut index = instances.first(is_handler);
    let handlers: Vec<_> = instances.list.iter().filter(|i| is_handler(i)).collect();
    if let [first, second, ..] = handlers.as_slice() {
        let message = format!("there is a profile handler already, '{}'", first.name);
        instances.diagnostics.error(second.at, &second.path, message);
        return None;
    }
    if index.is_none() && !instances.has_broken() {
        if plans.len() != 1 {
            let message = format!(
                "{} profiles need a profile handler among the plugins that says which run",
                plans.len()
            );
            instances.diagnostics.error(None, "schedulingProfiles", message);
            return None;
        }
        index = instances.default_of(DEFAULT_HANDLER);
    }
    let instance = &instances.list[index?];
    let handler = instance.capabilities.get::<dyn ProfileHandler>().cloned()?;
    let names: Vec<&str> = plans.iter().map(|p| p.name.as_str()).collect();
    for mistake in handler.bind(&names).err().unwrap_or_default() {
        let at = mistake.at.or(instance.at);
        let field = mistake.field.as_deref().unwrap_or(&instance.path);
        match mistake.severity {
            Severity::Error => instances.diagnostics.error(at, field, mistake.message),
            Severity::Warning => instances.diagnostics.warning(at, field, mistake.message),
        }
    }
    Some(handler)
}

/// Puts the parts together. `None` where one is missing, which was reported.
pub(super) fn build_scheduler(
    plans: &[ProfilePlan],
    handler: Option<Arc<dyn ProfileHandler>>,
    instances: &Instances<'_>,
    times: &Measured,
) -> Option<Scheduler> {
    let profiles = plans.iter().map(|p| build_profile(p, instances)).collect::<Option<Vec<_>>>()?;
    let mut scheduler = Scheduler::new(profiles, handler?);
    scheduler.screeners = times.all(instances, point::SCREENER);
    scheduler.producers = order_producers(instances, times)?;
    scheduler.admitters = times.all(instances, point::ADMISSION);
    scheduler.observers = times.all(instances, point::PRE_REQUEST);
    scheduler.request_hooks = times.all(instances, point::PRE_REQUEST);
    scheduler.timers = times.of_schedule(plans, instances);
    Some(scheduler)
}

fn order_producers(instances: &Instances<'_>, times: &Measured) -> Option<Vec<Arc<dyn Producer>>> {
    let part = |i: usize| times.part::<dyn Producer>(&instances.list[i], point::DATA_PRODUCER);
    let is_producer = |i: &usize| instances.list[*i].capabilities.has::<dyn Producer>();
    let producers: Vec<usize> = (0..instances.list.len()).filter(is_producer).collect();
    match instances.dependencies.in_order(&producers) {
        Ok(ordered) => Some(ordered.into_iter().filter_map(part).collect()),
        Err(index) => {
            let Instance { at, path, name, .. } = &instances.list[index];
            let message = format!("plugin '{name}' reads, by way of others, what it gives itself");
            instances.diagnostics.error(*at, path, message);
            None
        }
    }
}

fn build_profile(plan: &ProfilePlan, instances: &Instances<'_>) -> Option<Profile> {
    let mut filters = Vec::new();
    let mut scorers = Vec::new();
    let mut picker: Option<(Arc<dyn Picker>, &String)> = None;
    for &(index, weight) in &plan.plugins {
        let Instance { name, capabilities, .. } = &instances.list[index];
        let filter = capabilities.get::<dyn Filter>().cloned();
        filters.extend(filter.map(|filter| (name.clone(), filter)));
        let scorer = capabilities.get::<dyn Scorer>().cloned();
        scorers.extend(scorer.map(|scorer| WeightedScorer {
            name: name.clone(),
            scorer,
            weight: weight.unwrap_or(1.0),
        }));
        picker = picker.or_else(|| Some((capabilities.get::<dyn Picker>().cloned()?, name)));
    }
    let (picker, picker_name) = picker?;
    let (name, picker_name) = (plan.name.as_str().into(), picker_name.clone());
    Some(Profile { name, filters, scorers, picker, picker_name })
}
