use crate::config::{Fields, Position, Value};

/// A plugin's name where another part of the document uses it.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub name: String,
    pub at: Option<Position>,
    pub path: String,
}

/// The `pluginRef` of a mapping that must have one.
pub(super) fn reference(fields: &mut Fields<'_>) -> Option<Reference> {
    let node = fields.node("pluginRef");
    match node.map(|n| &n.value) {
        None => {
            fields.error("pluginRef", "is missing: name a plugin");
            None
        }
        Some(Value::Str(name)) if name.is_empty() => {
            fields.error("pluginRef", "is empty: name a plugin");
            None
        }
        Some(_) => fields.string("pluginRef").map(|name| Reference {
            name: name.to_owned(),
            at: node.map(|n| n.at),
            path: fields.field("pluginRef"),
        }),
    }
}

/// The `pluginRef` of the mapping `name`, if that is there.
pub(super) fn optional_reference(fields: &mut Fields<'_>, name: &'static str) -> Option<Reference> {
    let mut section = fields.nested(name);
    if section.is_absent() {
        return None;
    }
    let found = reference(&mut section);
    section.finish();
    found
}
