use std::any::Any;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::scheduling::{Filter, Picker, ReadsAnswers, Scorer};
use crate::scrape_config::Needs;

/// The parts that a plugin can play, by their traits: most play one. Whoever has a use for a part
/// asks for it by its type, so a part of a new kind needs nothing here.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Each an `Arc<Arc<P>>` of a part's type `P`.
    parts: SmallVec<[Arc<dyn AnyPart>; 2]>,
    /// The endpoints' signals that the plugin reads; the others need not be collected.
    pub signals: Needs,
    /// What the plugin comes to know that decisions rest on, as people call it; `None`: nothing
    /// that would be missed.
    pub memory: Option<&'static str>,
}

/// A part of some kind, which can be looked at and printed.
trait AnyPart: Any + fmt::Debug + Send + Sync {}

impl<T: Any + fmt::Debug + Send + Sync> AnyPart for T {}

impl Capabilities {
    /// A plugin that filters and does nothing else; likewise the two below.
    pub fn filter(filter: impl Filter + 'static) -> Self {
        Self::default().with::<dyn Filter>(Arc::new(filter))
    }

    pub fn scorer(scorer: impl Scorer + 'static) -> Self {
        Self::default().with::<dyn Scorer>(Arc::new(scorer))
    }

    pub fn picker(picker: impl Picker + 'static) -> Self {
        Self::default().with::<dyn Picker>(Arc::new(picker))
    }

    /// Adds a part, such as `with::<dyn Scorer>(plugin.clone())`.
    pub fn with<P>(mut self, part: Arc<P>) -> Self
    where
        P: ?Sized + fmt::Debug + Send + Sync + 'static,
    {
        self.parts.push(Arc::new(part));
        self
    }

    /// Says which of the endpoints' signals the plugin reads.
    pub fn reading(mut self, signals: Needs) -> Self {
        self.signals = signals;
        self
    }

    /// Says what is lost when the plugin is made anew, such as "prefix index".
    pub fn remembering(mut self, memory: &'static str) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Says that the plugin goes by what the bodies of responses tell.
    pub fn reading_answers(self, what: ReadsAnswers) -> Self {
        self.with(Arc::new(what))
    }

    /// The part of this type, if the plugin plays it.
    pub fn get<P: ?Sized + Send + Sync + 'static>(&self) -> Option<&Arc<P>> {
        self.parts.iter().find_map(|part| (&**part as &dyn Any).downcast_ref())
    }

    /// True where the plugin plays the part of this type.
    pub fn has<P: ?Sized + Send + Sync + 'static>(&self) -> bool {
        self.get::<P>().is_some()
    }

    /// True where the plugin plays no part: what its type stands for always happens.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    trait Greets: fmt::Debug + Send + Sync {
        fn greeting(&self) -> String;
    }

    #[derive(Debug)]
    struct Waiter;

    impl Greets for Waiter {
        fn greeting(&self) -> String {
            "welcome".into()
        }
    }

    #[test]
    fn parts_are_found_by_their_types() {
        let plays =
            Capabilities::default().with::<dyn Greets>(Arc::new(Waiter)).with(Arc::new(7u8));
        assert_eq!(plays.get::<dyn Greets>().map(|g| g.greeting()).as_deref(), Some("welcome"));
        assert_eq!(plays.get::<u8>().map(|n| **n), Some(7));
        assert!(!plays.has::<dyn Filter>() && !plays.has::<u16>() && !plays.is_empty());
        assert!(Capabilities::default().is_empty());
    }
}
