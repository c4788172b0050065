//! The `messages` of a conversation: a message is its role and then its content, whichever of the
//! two comes first in the body.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess};

use super::draft::{Draft, Mark};
use super::json::{self, Elements, Fields, ObjectInto};

/// What a message of an API family has beside its role.
pub(super) trait MessageFormat {
    /// Reads the value of `content` into the draft.
    ///
    /// # Errors
    /// A value that is none.
    fn content<'a, M: MapAccess<'a>>(map: &mut M, draft: &mut Draft<'a>) -> Result<(), M::Error>;

    /// Reads the value of another field; false where it is none that is read.
    ///
    /// # Errors
    /// A value that is none.
    fn other<'a, M: MapAccess<'a>>(key: &str, map: &mut M) -> Result<bool, M::Error> {
        let _ = (key, map);
        Ok(false)
    }
}

/// The elements of `messages`.
pub(super) struct MessageList<'d, 'a, F> {
    draft: &'d mut Draft<'a>,
    format: PhantomData<F>,
}

impl<'d, 'a, F> MessageList<'d, 'a, F> {
    pub(super) fn new(draft: &'d mut Draft<'a>) -> Self {
        Self { draft, format: PhantomData }
    }
}

impl<'a, F: MessageFormat> Elements<'a> for MessageList<'_, 'a, F> {
    fn element<A: SeqAccess<'a>>(&mut self, seq: &mut A) -> Result<Option<()>, A::Error> {
        let mut message = Message::<F> {
            draft: self.draft,
            role: Cow::Borrowed(""),
            content: None,
            format: PhantomData,
        };
        let read = seq.next_element_seed(ObjectInto(&mut message))?;
        let Message { draft, role, content, .. } = message;
        match content {
            Some(mark) => draft.put_before(mark, role),
            None => draft.text(role),
        }
        Ok(read)
    }
}

struct Message<'d, 'a, F> {
    draft: &'d mut Draft<'a>,
    role: Cow<'a, str>,
    /// Where its content begins in the draft.
    content: Option<Mark>,
    format: PhantomData<F>,
}

impl<'a, F: MessageFormat> Fields<'a> for Message<'_, 'a, F> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        match key {
            "role" => self.role = json::text(map)?,
            "content" => {
                self.content.into_iter().for_each(|earlier| self.draft.cut(earlier));
                self.content = Some(self.draft.mark());
                F::content(map, self.draft)?;
            }
            _ => return F::other(key, map),
        }
        Ok(true)
    }
}
