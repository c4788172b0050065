use super::Position;

/// A value of the document and where it stands, so that whoever finds out later that it is wrong
/// can say so at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    pub value: T,
    /// `None` for what defaulting added.
    pub at: Option<Position>,
    /// The field, such as `plugins[2].parameters.deciders.prefill`.
    pub field: String,
}

impl<T> Placed<T> {
    /// Something else at the same place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Placed<U> {
        Placed { value: f(self.value), at: self.at, field: self.field }
    }
}
