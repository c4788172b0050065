//! Just enough of the protobuf wire format to understand a picker's replies without decoding
//! them: the driver shares its cores with the server it measures, so it must cost little.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// A string, bytes or an embedded message.
    Bytes(&'a [u8]),
    /// A fixed-width number, which no message we read has.
    Fixed,
}

/// What came is not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message")]
pub(super) struct Malformed;

/// The fields of a message, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let (tag, wire_type) = decode_key(&mut self.0).map_err(|_| Malformed)?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut self.0).map_err(|_| Malformed)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.0).map_err(|_| Malformed)?;
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            WireType::SixtyFourBit => self.skip(8)?,
            WireType::ThirtyTwoBit => self.skip(4)?,
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
        };
        Ok((tag, value))
    }

    fn skip(&mut self, n: usize) -> Result<Value<'a>, Malformed> {
        if self.0.len() < n {
            return Err(Malformed);
        }
        self.0.advance(n);
        Ok(Value::Fixed)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The last embedded message (or string) with this tag; `None` where there is none.
pub(super) fn bytes_field(message: &[u8], tag: u32) -> Result<Option<&[u8]>, Malformed> {
    let mut found = None;
    for field in Fields(message) {
        if let (t, Value::Bytes(bytes)) = field?
            && t == tag
        {
            found = Some(bytes);
        }
    }
    Ok(found)
}

/// The number with this tag, 0 where it is absent.
pub(super) fn varint_field(message: &[u8], tag: u32) -> Result<u64, Malformed> {
    let mut found = 0;
    for field in Fields(message) {
        if let (t, Value::Varint(n)) = field?
            && t == tag
        {
            found = n;
        }
    }
    Ok(found)
}
