use super::{About, Capabilities, Dependencies};
use crate::config::Fields;
use crate::endpoints::PoolIds;
use crate::prefix::HashKey;

/// A plugin type: its name in YAML and how an instance is made.
#[derive(Debug)]
pub struct PluginType {
    pub name: &'static str,
    /// Other names the reference accepts for it, or accepted once.
    pub aliases: &'static [&'static str],
    /// What it is for and which parameters it takes.
    pub about: About,
    /// Makes an instance. Mistakes in the parameters are reported through `Build::parameters`;
    /// the instance is made all the same, so that every mistake is found.
    pub build: fn(Build<'_, '_>) -> Capabilities,
}

/// What an instance is made from.
pub struct Build<'a, 'l> {
    /// The instance's name in the configuration.
    pub name: &'a str,
    /// Its `parameters`. Call [`Fields::finish`] (or `ignore_rest`) when all are read.
    pub parameters: Fields<'a>,
    /// What it needs of other plugins.
    pub dependencies: &'l mut Dependencies,
    /// Where it claims a place in every endpoint of its pool.
    pub ids: &'l PoolIds,
    /// What its block hashes are to depend on.
    pub hash_key: HashKey,
    /// The plugin of its name and type in the configuration that this one replaces, where its
    /// parameters were others: what that one knows may be of use still. See [`TookOver`].
    pub predecessor: Option<&'l Capabilities>,
}

/// The part of a plugin that goes on with what its predecessor knows, in the places that that
/// one claimed.
#[derive(Clone, Copy, Debug)]
pub struct TookOver;
