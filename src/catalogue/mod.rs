//! What a configuration may say, for people and for editors: the plugin types as text, as JSON and
//! as the tables of `docs/plugins.md`, and a JSON Schema.
//!
//! All of it is made of what each type declares beside its reader
//! ([`About`](crate::plugins::About)); tests hold the declarations against the readers.

mod columns;
mod document_schema;
mod listing;
mod page;
mod rows;
mod schema;
mod tables;

pub use listing::{list, list_json};
pub use page::{page, page_json};
pub use schema::schema;
pub use tables::tables;
