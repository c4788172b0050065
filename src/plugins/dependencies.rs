//! How the plugins of one configuration find each other: whose results they read, and which
//! plugins they are told to use.

use std::any::TypeId;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Capabilities;
use crate::config::{Placed, Position};
use crate::scheduling::{DataKey, RequestDatum};

/// What plugins of one configuration need of each other. A plugin says it while it is built; the
/// loader sees to it that it is there, and reports what is not.
#[derive(Debug, Default)]
pub struct Dependencies {
    slots: Vec<DataSlot>,
    references: Vec<PluginReference>,
    /// Number of the plugin that is being built.
    building: usize,
    /// Slots that were spoken of.
    spoken_of: usize,
}

/// Where the results of plugins were put, so that those of another configuration are put there as
/// well: a plugin that goes on knows its places.
#[derive(Clone, Debug, Default)]
pub struct DataPlaces(Vec<DataSlot>);

#[cfg(test)]
impl DataPlaces {
    /// The results that are given, in the order of their places.
    pub(crate) fn given(&self) -> Vec<(TypeId, String)> {
        let given = self.0.iter().filter(|slot| slot.provided_by.is_some());
        given.map(|slot| (slot.data, slot.producer.clone())).collect()
    }
}

/// The place of one producer's result.
#[derive(Clone, Debug)]
pub struct DataSlot {
    data: TypeId,
    /// Name of the producer; empty: whichever there is.
    pub producer: String,
    /// What its producer is called in messages.
    pub kind: &'static str,
    /// The type that is added where a required producer of no other name is missing.
    pub default_producer: Option<&'static str>,
    pub provided_by: Option<usize>,
    pub readers: Vec<DataReader>,
    /// In which order plugins spoke of it first; `None`: none has.
    pub spoken_of: Option<usize>,
}

/// What stands in a place that is not used any more.
struct Vacant;

impl DataSlot {
    fn is_same(&self, other: &Self) -> bool {
        self.data == other.data && self.producer == other.producer
    }
}

/// A plugin that reads a producer's result.
#[derive(Clone, Debug)]
pub struct DataReader {
    pub plugin: usize,
    /// It is no use without.
    pub required: bool,
    /// Where the producer's name stands, if it was given one.
    pub named: Option<(Option<Position>, String)>,
}

/// A plugin that another one is told to use.
pub struct PluginReference {
    /// Number of the plugin that is told.
    pub plugin: usize,
    pub name: Placed<String>,
    /// What the plugin has to be, for messages: "prefill decider".
    pub role: &'static str,
    /// What it is where there is no such plugin, or it is of another kind.
    pub lack: Lack,
    /// Takes the part out of the plugin's; false where it has none of the kind.
    pub bind: Box<dyn Fn(&Capabilities) -> bool>,
}

/// What it means that a plugin which another one is told to use is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Mistake,
    /// The other one has no effect, which is said.
    Warned,
    /// There may be no plugin of the name, but one that is there has to be of the kind.
    Allowed,
}

impl fmt::Debug for PluginReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginReference({} as {})", self.name.value, self.role)
    }
}

/// Another plugin's part, there as soon as the configuration has been loaded.
pub struct PluginPart<P: ?Sized>(Arc<OnceLock<Arc<P>>>);

impl<P: ?Sized> Clone for PluginPart<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: ?Sized> fmt::Debug for PluginPart<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginPart")
    }
}

impl<P: ?Sized> PluginPart<P> {
    /// A part that is known already.
    pub fn bound(part: Arc<P>) -> Self {
        Self(Arc::new(OnceLock::from(part)))
    }

    /// The part; `None` while the configuration is loaded.
    pub fn get(&self) -> Option<&P> {
        self.0.get().map(|part| &**part)
    }
}

impl Dependencies {
    /// Whatever is said from now on, this plugin says.
    pub fn begin(&mut self, plugin: usize) {
        self.building = plugin;
    }

    /// The plugin being built produces this data under the name of `producer`, its own.
    pub fn provide<T: RequestDatum>(&mut self, producer: &str) -> DataKey<T> {
        let slot = self.slot::<T>(producer);
        self.slots[slot].provided_by.get_or_insert(self.building);
        DataKey::new(slot)
    }

    /// The plugin being built reads the result of the producer of this name; without one, of the
    /// data's default producer, which is added if the configuration does not have it.
    pub fn read<T: RequestDatum>(&mut self, producer: Option<Placed<&str>>) -> DataKey<T> {
        self.add_reader::<T>(producer, true)
    }

    /// The same, but nothing is added or missed where no name is given.
    pub fn read_if_there<T: RequestDatum>(&mut self, producer: Option<Placed<&str>>) -> DataKey<T> {
        let required = producer.is_some();
        self.add_reader::<T>(producer, required)
    }

    /// The plugin being built reads [`crate::scheduling::RequestData::first`] of this data: it
    /// runs after all producers of it.
    pub fn read_first<T: RequestDatum>(&mut self) {
        let slot = self.slot::<T>("");
        let reader = DataReader { plugin: self.building, required: false, named: None };
        self.slots[slot].readers.push(reader);
    }

    fn add_reader<T: RequestDatum>(
        &mut self,
        producer: Option<Placed<&str>>,
        required: bool,
    ) -> DataKey<T> {
        let name = producer.as_ref().map(|p| p.value);
        let slot = self.slot::<T>(name.or(T::DEFAULT_PRODUCER).unwrap_or_default());
        let named = producer.map(|p| (p.at, p.field));
        self.slots[slot].readers.push(DataReader { plugin: self.building, required, named });
        DataKey::new(slot)
    }

    fn slot<T: RequestDatum>(&mut self, producer: &str) -> usize {
        let data = TypeId::of::<T>();
        let known = self.slots.iter().position(|s| s.data == data && s.producer == producer);
        let slot = known.unwrap_or_else(|| {
            self.slots.push(DataSlot {
                data,
                producer: producer.to_owned(),
                kind: T::PRODUCER,
                default_producer: T::DEFAULT_PRODUCER,
                provided_by: None,
                readers: Vec::new(),
                spoken_of: None,
            });
            self.slots.len() - 1
        });
        if self.slots[slot].spoken_of.is_none() {
            self.slots[slot].spoken_of = Some(self.spoken_of);
            self.spoken_of += 1;
        }
        slot
    }

    /// The plugin being built uses the plugin of this name in the part `P`; `role` is what that
    /// is called in messages.
    pub fn plugin<P: ?Sized + Send + Sync + 'static>(
        &mut self,
        name: Placed<String>,
        role: &'static str,
    ) -> PluginPart<P> {
        self.refer(name, role, Lack::Mistake, |_| true)
    }

    /// The same where the configuration may have no such plugin.
    pub fn plugin_if_there<P: ?Sized + Send + Sync + 'static>(
        &mut self,
        name: &str,
        role: &'static str,
    ) -> PluginPart<P> {
        let name = Placed { value: name.to_owned(), at: None, field: String::new() };
        self.refer(name, role, Lack::Allowed, |_| true)
    }

    /// The same where the plugin's part has to be one that `accepts` takes; where there is none it
    /// is said, and no mistake.
    pub fn plugin_that<P: ?Sized + Send + Sync + 'static>(
        &mut self,
        name: Placed<String>,
        role: &'static str,
        accepts: impl Fn(&P) -> bool + 'static,
    ) -> PluginPart<P> {
        self.refer(name, role, Lack::Warned, accepts)
    }

    fn refer<P: ?Sized + Send + Sync + 'static>(
        &mut self,
        name: Placed<String>,
        role: &'static str,
        lack: Lack,
        accepts: impl Fn(&P) -> bool + 'static,
    ) -> PluginPart<P> {
        let part = Arc::new(OnceLock::new());
        let found = part.clone();
        let bind = move |capabilities: &Capabilities| match capabilities.get::<P>() {
            // Bound once: a second time changes nothing.
            Some(p) if accepts(p) => found.set(p.clone()).is_ok() || found.get().is_some(),
            _ => false,
        };
        let plugin = self.building;
        self.references.push(PluginReference { plugin, name, role, lack, bind: Box::new(bind) });
        PluginPart(part)
    }

    /// Puts results where they were put `before`, as far as they are in the order there that they
    /// have in `fresh`, a configuration that knew of none. The kinds of data of which that is
    /// not so get new places.
    pub fn over(before: &DataPlaces, fresh: &DataPlaces) -> Self {
        let names = |slots: &[DataSlot], data: TypeId, among: &[DataSlot]| -> Vec<String> {
            let of_kind = slots.iter().filter(|slot| slot.data == data);
            let is_there = |slot: &&DataSlot| among.iter().any(|other| other.is_same(slot));
            of_kind.filter(is_there).map(|slot| slot.producer.clone()).collect()
        };
        let keeps_order = |data: TypeId| {
            let ours = names(&before.0, data, &fresh.0);
            let all: Vec<_> = fresh.0.iter().filter(|slot| slot.data == data).collect();
            // What is new comes behind what was there.
            ours.iter().zip(&all).all(|(ours, fresh)| *ours == fresh.producer)
        };
        let place = |slot: &DataSlot| DataSlot {
            data: if keeps_order(slot.data) { slot.data } else { TypeId::of::<Vacant>() },
            provided_by: None,
            readers: Vec::new(),
            spoken_of: None,
            ..slot.clone()
        };
        Self { slots: before.0.iter().map(place).collect(), ..Self::default() }
    }

    /// Where results are put; those at the end that nobody has a use for are left out.
    pub fn places(&self) -> DataPlaces {
        let used = |slot: &DataSlot| slot.provided_by.is_some() || !slot.readers.is_empty();
        let len = self.slots.iter().rposition(used).map_or(0, |last| last + 1);
        DataPlaces(self.slots.iter().take(len).cloned().collect())
    }

    /// True where a plugin finds its results, and what it reads, in the same places as `before`.
    pub fn has_places_of(&self, plugin: usize, before: &DataPlaces) -> bool {
        let touches = |slot: &DataSlot| {
            slot.provided_by == Some(plugin) || slot.readers.iter().any(|r| r.plugin == plugin)
        };
        let mut slots = self.slots.iter().enumerate().filter(|(_, slot)| touches(slot));
        slots.all(|(at, slot)| before.0.get(at).is_some_and(|b| b.is_same(slot)))
    }

    /// The results that plugins give or read.
    pub fn data(&self) -> &[DataSlot] {
        &self.slots
    }

    /// The plugins that are to be used by others.
    pub fn references(&self) -> &[PluginReference] {
        &self.references
    }

    /// The plugins among `plugins` in an order in which everyone comes after those whose results
    /// it reads, and as given where that leaves a choice.
    ///
    /// # Errors
    /// A plugin that would have to come before itself.
    pub fn in_order(&self, plugins: &[usize]) -> Result<Vec<usize>, usize> {
        let mut rest = plugins.to_vec();
        let mut ordered = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            let waits = |&plugin: &usize| rest.iter().any(|&r| self.reads_from(plugin, r));
            let Some(next) = rest.iter().position(|p| !waits(p)) else { return Err(rest[0]) };
            ordered.push(rest.remove(next));
        }
        Ok(ordered)
    }

    /// True where `reader` reads a result of `producer`, another plugin.
    fn reads_from(&self, reader: usize, producer: usize) -> bool {
        let reads = |slot: &&DataSlot| slot.readers.iter().any(|r| r.plugin == reader);
        reader != producer
            && self.slots.iter().filter(reads).any(|slot| match slot.producer.as_str() {
                "" => self
                    .slots
                    .iter()
                    .any(|s| s.data == slot.data && s.provided_by == Some(producer)),
                _ => slot.provided_by == Some(producer),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::{PrefixMatch, TokenLoad};

    fn named(name: &str) -> Option<Placed<&str>> {
        Some(Placed { value: name, at: None, field: String::new() })
    }

    #[test]
    fn producers_come_after_those_they_read() {
        let mut d = Dependencies::default();
        d.begin(0);
        d.provide::<TokenLoad>("load");
        d.read_first::<PrefixMatch>();
        d.begin(1);
        d.provide::<PrefixMatch>("late");
        d.read::<TokenLoad>(named("other"));
        d.begin(2);
        d.provide::<PrefixMatch>("early");
        d.begin(3);
        d.provide::<TokenLoad>("other");
        assert_eq!(d.in_order(&[0, 1, 2, 3]), Ok(vec![2, 3, 1, 0]));
        assert_eq!(d.in_order(&[0, 2]), Ok(vec![2, 0]));
        d.begin(3);
        d.read::<PrefixMatch>(named("late"));
        assert_eq!(d.in_order(&[0, 1, 2, 3]), Err(0));
    }

    #[test]
    fn a_plugin_may_read_what_it_gives_itself() {
        let mut d = Dependencies::default();
        d.provide::<PrefixMatch>("own");
        d.read::<PrefixMatch>(named("own"));
        assert_eq!(d.in_order(&[0]), Ok(vec![0]));
    }

    #[test]
    fn parts_of_other_plugins_are_there_once_bound() {
        let mut d = Dependencies::default();
        let name = Placed { value: "x".to_owned(), at: None, field: String::new() };
        let part: PluginPart<u8> = d.plugin(name, "number");
        assert!(part.get().is_none());
        assert!(!(d.references()[0].bind)(&Capabilities::default()));
        assert!((d.references()[0].bind)(&Capabilities::default().with(Arc::new(5u8))));
        assert_eq!(part.get(), Some(&5));
    }
}
