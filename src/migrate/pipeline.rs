use serde_json::Value as Json;

use super::edit::{Edit, replace};
use super::source::{Content, Tree};
use crate::plugins::{Kind, Parameter, PluginType, find};

/// The plugins of a document, and who names them.
pub(super) struct Pipeline<'s> {
    pub plugins: Vec<Plugin<'s>>,
    pub references: Vec<Reference<'s>>,
    /// The list `plugins`.
    pub list: Option<&'s Tree>,
    /// The profiles, as mappings.
    pub profiles: &'s [Tree],
}

/// One entry of `plugins`.
pub(super) struct Plugin<'s> {
    pub index: usize,
    pub tree: &'s Tree,
    pub type_name: &'s str,
    pub name: &'s str,
    /// It is called as its type is, for want of a name.
    pub is_unnamed: bool,
    pub parameters: Option<&'s Tree>,
    pub plugin_type: Option<&'static PluginType>,
}

/// A plugin's name where something refers to it.
pub(super) struct Reference<'s> {
    pub tree: &'s Tree,
    pub name: &'s str,
    /// The kind of plugin that a parameter wants; `None` outside of parameters.
    pub role: Option<&'static str>,
}

/// Keys outside of parameters under which plugins are named.
const REFERENCE_KEYS: [&str; 4] =
    ["pluginRef", "fairnessPolicyRef", "orderingPolicyRef", "usageLimitPolicyPluginRef"];

impl<'s> Pipeline<'s> {
    pub(super) fn of(root: &'s Tree) -> Self {
        let list = root.get("plugins");
        let items = list.map(Tree::items).unwrap_or_default();
        let plugins: Vec<_> =
            items.iter().enumerate().filter_map(|(i, tree)| Plugin::of(i, tree)).collect();
        let mut references = Vec::new();
        for entry in root.entries().iter().filter(|entry| entry.name != "plugins") {
            outside(&entry.value, &mut references);
        }
        for plugin in &plugins {
            let declared = plugin.plugin_type.map(|t| t.about.parameters.listed());
            if let (Some(parameters), Some(declared)) = (plugin.parameters, declared) {
                inside(parameters, declared, declared, &mut references);
            }
        }
        let profiles = root.get("schedulingProfiles").map(Tree::items).unwrap_or_default();
        Self { plugins, references, list, profiles }
    }

    /// The plugins of a type, by its name of today.
    pub(super) fn of_type(&self, name: &str) -> impl Iterator<Item = &Plugin<'s>> {
        let is_it = move |p: &&Plugin<'s>| p.plugin_type.is_some_and(|t| t.name == name);
        self.plugins.iter().filter(is_it)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Plugin<'s>> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }

    /// Edits that call a plugin by another name wherever it is referred to as one of `roles`; all
    /// of them for an empty list.
    pub(super) fn rename(&self, old: &str, new: &str, roles: &[Option<&str>]) -> Vec<Option<Edit>> {
        let referring = self.references.iter().filter(|r| r.name == old);
        let wanted = referring.filter(|r| roles.is_empty() || roles.contains(&r.role));
        wanted.map(|r| Some(replace(r.tree, new))).collect()
    }

    /// A name that no plugin has, made of this one.
    pub(super) fn free_name(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut n = 2;
        while self.named(&name).is_some() {
            name = format!("{wanted}-{n}");
            n += 1;
        }
        name
    }
}

impl<'s> Plugin<'s> {
    fn of(index: usize, tree: &'s Tree) -> Option<Self> {
        let type_name = tree.get("type")?.str()?;
        let name = tree.get("name").and_then(Tree::str).filter(|name| !name.is_empty());
        Some(Self {
            index,
            tree,
            type_name,
            name: name.unwrap_or(type_name),
            is_unnamed: name.is_none(),
            parameters: tree.get("parameters"),
            plugin_type: find(type_name),
        })
    }

    /// The value of a parameter that is given.
    pub(super) fn given(&self, name: &str) -> Option<&'s Json> {
        self.parameters?.given(name)
    }

    /// `plugins[2] (queue)`.
    pub(super) fn place(&self) -> String {
        format!("plugins[{}] ({})", self.index, self.name)
    }
}

fn outside<'s>(tree: &'s Tree, references: &mut Vec<Reference<'s>>) {
    match &tree.content {
        Content::Scalar => {}
        Content::Seq { items, .. } => items.iter().for_each(|item| outside(item, references)),
        Content::Map { entries, .. } => {
            for entry in entries {
                match entry.value.str() {
                    Some(name) if REFERENCE_KEYS.contains(&entry.name.as_str()) => {
                        references.push(Reference { tree: &entry.value, name, role: None });
                    }
                    _ => outside(&entry.value, references),
                }
            }
        }
    }
}

/// What parameters name plugins, as they are declared; `itself` are those of the whole type.
fn inside<'s>(
    tree: &'s Tree,
    declared: &'static [Parameter],
    itself: &'static [Parameter],
    references: &mut Vec<Reference<'s>>,
) {
    for entry in tree.entries() {
        let parameter = declared.iter().find(|p| p.name.eq_ignore_ascii_case(&entry.name));
        let Some(parameter) = parameter else { continue };
        match (parameter.kind, entry.value.str()) {
            (Kind::Plugin(role), Some(name)) => {
                references.push(Reference { tree: &entry.value, name, role: Some(role) });
            }
            (Kind::Itself, _) => inside(&entry.value, itself, itself, references),
            (Kind::Fields(fields), _) => inside(&entry.value, fields, itself, references),
            (Kind::Each(fields), _) => {
                for item in entry.value.items() {
                    inside(item, fields, itself, references);
                }
            }
            _ => {}
        }
    }
}
