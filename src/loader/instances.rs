use std::collections::BTreeSet;
use std::sync::Arc;

use super::document::{PluginEntry, did_you_mean};
use super::reference::Reference;
use super::reference_types;
use super::residents::Residents;
use crate::api::EstimateRules;
use crate::config::{Diagnostics, Fields, Node, Position, Severity};
use crate::endpoints::{PoolIds, SlotClaims};
use crate::exchange::{AnswerReader, OutcomeListener};
use crate::plugins::{self, Build, Capabilities, DataPlaces, Dependencies, TookOver};
use crate::prefix::HashKey;
use crate::scheduling::{
    Admitter, AwaitingProducer, DebugState, EndpointHook, Filter, Lifecycle, PickObserver, Picker,
    Producer, ProfileHandler, ReadsAnswers, RequestHook, RequestProcessor, ResponseHook, Scorer,
    Screener,
};

/// A plugin that was made.
#[derive(Debug)]
pub(super) struct Instance {
    pub name: String,
    pub plugin_type: &'static str,
    pub parameters: Option<Node>,
    /// Where its name stands; `None` for one that defaulting added.
    pub at: Option<Position>,
    /// `plugins[i]`, or the name of one that defaulting added.
    pub path: String,
    pub capabilities: Capabilities,
    /// Something refers to it, or it works by being there.
    pub used: bool,
    /// Its places in every endpoint, and those that it took over.
    pub claims: Vec<SlotClaims>,
    /// It is the plugin of the configuration before, which goes on.
    pub goes_on: bool,
}

impl Instance {
    /// True where the plugin has a part in a profile.
    pub(super) fn is_for_profiles(&self) -> bool {
        let parts = &self.capabilities;
        parts.has::<dyn Filter>() || parts.has::<dyn Scorer>() || parts.has::<dyn Picker>()
    }
}

/// The plugins of one configuration, in its order; those that defaulting adds come last.
pub(super) struct Instances<'d> {
    pub list: Vec<Instance>,
    pub dependencies: Dependencies,
    ids: &'d PoolIds,
    hash_key: HashKey,
    pub diagnostics: &'d Diagnostics,
    /// What is to be said of experimental plugins; `None`: nothing.
    experimental: Option<Severity>,
    /// Plugins that were configured but could not be made, which was reported: a reference to
    /// one is no further mistake.
    broken: BTreeSet<String>,
    /// The plugins of the configuration that this one replaces.
    before: Option<&'d Residents>,
}

/// The plugins of the configuration that is replaced, and where results would be put were there
/// none.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub residents: &'a Residents,
    pub fresh: &'a DataPlaces,
}

impl<'d> Instances<'d> {
    pub(super) fn new(
        diagnostics: &'d Diagnostics,
        ids: &'d PoolIds,
        options: &super::LoadOptions,
        before: Option<Before<'d>>,
    ) -> Self {
        let said = if options.only_checked { Severity::Warning } else { Severity::Error };
        Self {
            list: Vec::new(),
            dependencies: before.map_or_else(Dependencies::default, |before| {
                Dependencies::over(&before.residents.places, before.fresh)
            }),
            before: before.map(|before| before.residents),
            ids,
            hash_key: options.hash_key,
            diagnostics,
            experimental: (!options.allow_experimental_plugins).then_some(said),
            broken: BTreeSet::new(),
        }
    }

    /// Makes every configured plugin.
    pub(super) fn configure(&mut self, entries: &[PluginEntry<'_>]) {
        for (i, entry) in entries.iter().enumerate() {
            let earlier = entries[..i].iter().find(|e| e.name == entry.name);
            if let Some(earlier) = earlier.filter(|e| !e.name.is_empty()) {
                let line = earlier.name_at.map_or(0, |at| at.line);
                self.diagnostics.error(
                    entry.name_at,
                    &format!("{}.name", entry.path),
                    format!("duplicate plugin name '{}', first on line {line}", entry.name),
                );
                continue;
            }
            if entry.plugin_type.is_empty() {
                self.broken.insert(entry.name.clone());
                continue;
            }
            let place = Place {
                at: entry.name_at,
                type_at: entry.type_at,
                path: entry.path.clone(),
                type_path: format!("{}.type", entry.path),
            };
            self.make(&entry.name, &entry.plugin_type, entry.parameters, place);
        }
    }

    /// The plugin of this type that has its type's name, made with no parameters if there is
    /// none.
    pub(super) fn default_of(&mut self, plugin_type: &str) -> Option<usize> {
        self.first(|i| i.name == plugin_type && i.plugin_type == plugin_type)
            .or_else(|| self.add(plugin_type, None))
    }

    /// Makes a plugin that the configuration does not list, named as its type is. Reports a
    /// name that is taken.
    pub(super) fn add(&mut self, plugin_type: &str, parameters: Option<&Node>) -> Option<usize> {
        if let Some(taken) = self.find(plugin_type) {
            let Instance { at, path, plugin_type: other, .. } = &self.list[taken];
            let message = format!(
                "a plugin of type '{other}' has the name of type '{plugin_type}', which must be \
                 added under that name; give it another"
            );
            self.diagnostics.error(*at, path, message);
            return None;
        }
        let place = Place {
            at: None,
            type_at: None,
            path: plugin_type.to_owned(),
            type_path: String::new(),
        };
        self.make(plugin_type, plugin_type, parameters, place)
    }

    /// As [`Instances::add`], where `reference` asks for it.
    pub(super) fn add_at(&mut self, plugin_type: &str, reference: &Reference) -> Option<usize> {
        let place = Place {
            at: None,
            type_at: reference.at,
            path: plugin_type.to_owned(),
            type_path: reference.path.clone(),
        };
        self.make(plugin_type, plugin_type, None, place)
    }

    fn make(
        &mut self,
        name: &str,
        plugin_type: &str,
        parameters: Option<&Node>,
        place: Place,
    ) -> Option<usize> {
        let Some(found) = plugins::find(plugin_type) else {
            let message = if reference_types::is_known(plugin_type) {
                format!(
                    "plugin type '{plugin_type}' of the reference is not available in this version"
                )
            } else {
                let near = did_you_mean(plugin_type, plugins::type_names());
                format!("plugin type '{plugin_type}' is unknown{near}")
            };
            self.diagnostics.error(place.type_at, &place.type_path, message);
            self.broken.insert(name.to_owned());
            return None;
        };
        if let Some(severity) = self.experimental
            && reference_types::is_experimental(found.name)
        {
            let message = format!(
                "plugin type '{plugin_type}' is experimental: start with \
                 --allow-experimental-plugins to use it"
            );
            self.diagnostics.add(severity, place.type_at, &place.type_path, message);
        }
        let path = format!("{}.parameters", place.path);
        let fields =
            Fields::new(parameters, path, self.diagnostics).or_at(place.type_at).any_case();
        self.dependencies.begin(self.list.len());
        let predecessor = self.before.and_then(|before| before.find(name, found.name));
        let (ids, claims) = self.ids.noting();
        let mut claims = vec![claims];
        let capabilities = (found.build)(Build {
            name,
            parameters: fields,
            dependencies: &mut self.dependencies,
            ids: &ids,
            hash_key: self.hash_key,
            predecessor: predecessor.map(|before| &before.capabilities),
        });
        if let (Some(predecessor), true) = (predecessor, capabilities.has::<TookOver>()) {
            claims.extend(predecessor.claims.iter().cloned());
        }
        self.list.push(Instance {
            name: name.to_owned(),
            plugin_type: found.name,
            parameters: parameters.cloned(),
            at: place.at,
            path: place.path,
            used: works_unasked(&capabilities),
            capabilities,
            claims,
            goes_on: false,
        });
        Some(self.list.len() - 1)
    }

    /// Replaces plugins by those of the configuration before that are made in the same way and
    /// work with the same others: they know what they know, and go on. `profiles` are the names
    /// of the profiles, which a profile handler is bound to.
    pub(super) fn carry_over(&mut self, profiles: &[&str]) {
        let Some(before) = self.before else { return };
        let is_same = |(plugin, instance): (usize, &Instance)| {
            let known = before.find(&instance.name, instance.plugin_type);
            let handles = instance.capabilities.has::<dyn ProfileHandler>();
            known.is_some_and(|known| known.has_parameters(instance.parameters.as_ref()))
                && (!handles || before.has_profiles(profiles))
                && self.dependencies.has_places_of(plugin, &before.places)
        };
        let mut goes_on: Vec<bool> = self.list.iter().enumerate().map(is_same).collect();
        // One that uses another which is made anew has to be made anew as well.
        loop {
            let uses_new = self.dependencies.references().iter().find(|reference| {
                let name = &reference.name.value;
                let stays = match self.find(name) {
                    Some(used) => goes_on[used],
                    None => !before.has(name),
                };
                goes_on[reference.plugin] && !stays
            });
            let Some(reference) = uses_new else { break };
            goes_on[reference.plugin] = false;
        }
        for (instance, _) in self.list.iter_mut().zip(goes_on).filter(|(_, goes_on)| *goes_on) {
            let Some(known) = before.find(&instance.name, instance.plugin_type) else { continue };
            // The one that was made to be looked at has nothing anywhere.
            instance.claims.first().into_iter().for_each(|claims| self.ids.give_back(claims));
            instance.capabilities = known.capabilities.clone();
            instance.claims = known.claims.clone();
            instance.goes_on = true;
        }
    }

    /// Gives back what the plugins claimed that were made: nobody will use them.
    pub(super) fn give_back(&self) {
        for instance in self.list.iter().filter(|instance| !instance.goes_on) {
            instance.claims.first().into_iter().for_each(|claims| self.ids.give_back(claims));
        }
    }

    /// The plugin of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|i| i.name == name)
    }

    /// The first plugin that `plays` a part.
    pub(super) fn first(&self, plays: impl Fn(&Instance) -> bool) -> Option<usize> {
        self.list.iter().position(plays)
    }

    /// True where a plugin was configured but could not be made: what seems to be missing may
    /// be that one.
    pub(super) fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    pub(super) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// What may have been meant by a name that no plugin has.
    pub(super) fn hint_for(&self, name: &str) -> String {
        if plugins::find(name).is_some() {
            return format!("; add '- type: {name}' to plugins");
        }
        did_you_mean(name, self.list.iter().map(|i| i.name.as_str()))
    }

    /// The plugin that `reference` names. Reports a name that no plugin has.
    pub(super) fn resolve(&self, reference: &Reference) -> Option<usize> {
        let name = &reference.name;
        let found = self.find(name);
        if found.is_none() && !self.broken.contains(name) {
            let message = format!("no plugin is called '{name}'{}", self.hint_for(name));
            self.diagnostics.error(reference.at, &reference.path, message);
        }
        found
    }

    /// The part `P` of the plugin that `reference` names, which is used by that; reports a plugin
    /// that is no `role`.
    pub(super) fn resolve_part<P: ?Sized + Send + Sync + 'static>(
        &mut self,
        reference: &Reference,
        role: &str,
    ) -> Option<(usize, Arc<P>)> {
        let index = self.resolve(reference)?;
        let found = self.list[index].capabilities.get::<P>().cloned();
        if found.is_none() {
            let Instance { name, plugin_type, .. } = &self.list[index];
            let message = format!("plugin '{name}' of type '{plugin_type}' is not a {role}");
            self.diagnostics.error(reference.at, &reference.path, message);
        }
        self.list[index].used |= found.is_some();
        found.map(|found| (index, found))
    }

    /// The part `P` of every plugin that plays it, in the order of the configuration.
    pub(super) fn all<P: ?Sized + Send + Sync + 'static>(&self) -> Vec<Arc<P>> {
        self.list.iter().filter_map(|i| i.capabilities.get::<P>().cloned()).collect()
    }

    /// The plugins that show their state, with their names.
    pub(super) fn debug_states(&self) -> Vec<(String, Arc<dyn DebugState>)> {
        let state =
            |i: &Instance| Some((i.name.clone(), i.capabilities.get::<dyn DebugState>()?.clone()));
        self.list.iter().filter_map(state).collect()
    }

    /// The plugins that go by the bodies of responses.
    pub(super) fn answer_readers(&self) -> Vec<AnswerReader> {
        let works = |i: &&Instance| i.used || works_unasked(&i.capabilities);
        let reader = |i: &Instance| {
            let reads = **i.capabilities.get::<ReadsAnswers>()?;
            Some(AnswerReader { name: i.name.clone(), reads })
        };
        self.list.iter().filter(works).filter_map(reader).collect()
    }

    /// The first plugin that plays the part `P`.
    pub(super) fn first_with<P: ?Sized + Send + Sync + 'static>(&self) -> Option<usize> {
        self.first(|i| i.capabilities.has::<P>())
    }

    /// Says which configured plugins nothing refers to.
    pub(super) fn warn_of_unused(&self) {
        for instance in self.list.iter().filter(|i| !i.used && i.at.is_some()) {
            let message = format!("plugin '{}' has no effect: nothing refers to it", instance.name);
            self.diagnostics.warning(instance.at, &instance.path, message);
        }
    }
}

/// True for parts that work for every request, whether or not anything refers to the plugin, and
/// for a type that has no part to play: what it stands for always happens.
fn works_unasked(parts: &Capabilities) -> bool {
    parts.is_empty()
        || parts.has::<dyn Producer>()
        || parts.has::<dyn AwaitingProducer>()
        || parts.has::<dyn PickObserver>()
        || parts.has::<dyn ProfileHandler>()
        || parts.has::<dyn Screener>()
        || parts.has::<dyn Admitter>()
        || parts.has::<dyn RequestProcessor>()
        || parts.has::<dyn RequestHook>()
        || parts.has::<dyn ResponseHook>()
        || parts.has::<dyn EndpointHook>()
        || parts.has::<dyn Lifecycle>()
        || parts.has::<dyn OutcomeListener>()
        || parts.has::<EstimateRules>()
}

/// Where a plugin stands in the document.
struct Place {
    at: Option<Position>,
    type_at: Option<Position>,
    path: String,
    /// Where its type, or the reference that stands for it, is in the document.
    type_path: String,
}
