//! The fields of a protobuf message one by one, for lists that are not to be kept.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// Bytes, text, a message, or numbers side by side.
    Bytes(&'a [u8]),
    /// Numbers of a fixed size, and groups.
    Other,
}

/// The fields of `message` in order, by their numbers; it ends at the first that is malformed.
pub(super) fn fields(
    mut message: &[u8],
) -> impl Iterator<Item = Result<(u32, Value<'_>), Malformed>> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let field = field(&mut message);
        if field.is_err() {
            message = &[];
        }
        Some(field)
    })
}

fn field<'a>(message: &mut &'a [u8]) -> Result<(u32, Value<'a>), Malformed> {
    let (number, wire_type) = decode_key(message).map_err(|_| Malformed)?;
    let value = match wire_type {
        WireType::Varint => Value::Varint(decode_varint(message).map_err(|_| Malformed)?),
        WireType::LengthDelimited => {
            let length = decode_varint(message).map_err(|_| Malformed)?;
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            let (value, rest) = message.split_at_checked(length).ok_or(Malformed)?;
            *message = rest;
            Value::Bytes(value)
        }
        _ => {
            skip_field(wire_type, number, message, DecodeContext::default())
                .map_err(|_| Malformed)?;
            Value::Other
        }
    };
    Ok((number, value))
}

/// Numbers side by side, as packed lists hold them.
pub(super) fn varints(mut packed: &[u8]) -> impl Iterator<Item = Result<u64, Malformed>> {
    std::iter::from_fn(move || {
        if packed.is_empty() {
            return None;
        }
        let number = decode_varint(&mut packed).map_err(|_| Malformed);
        if number.is_err() {
            packed = &[];
        }
        Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_kind() {
        let message: &[u8] = &[
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x19, 1, 2, 3, 4, 5, 6, 7, 8, // 3: eight bytes
            0x25, 1, 2, 3, 4, // 4: four bytes
            0x2b, 0x08, 0x01, 0x2c, // 5: a group
            0x32, 0x00, // 6: nothing
        ];
        let read: Vec<_> = fields(message).collect();
        let expected = [
            Ok((1, Value::Varint(150))),
            Ok((2, Value::Bytes(b"hi"))),
            Ok((3, Value::Other)),
            Ok((4, Value::Other)),
            Ok((5, Value::Other)),
            Ok((6, Value::Bytes(b""))),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_malformed_ends_the_message() {
        for bytes in [
            [0x08, 0xff].as_slice(),   // a number without an end
            &[0x12, 0x03, b'h', b'i'], // text shorter than it says
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x08], // and much longer
            &[0x0f, 0x00, 0x08, 0x01], // a kind that does not exist
            &[0x00, 0x00],             // number 0
            &[0x19, 1, 2],             // too short for eight bytes
            &[0x2c],                   // the end of a group that never began
        ] {
            assert_eq!(fields(bytes).collect::<Vec<_>>(), [Err(Malformed)], "{bytes:x?}");
        }
        assert_eq!(
            varints(&[1, 0x80, 0x01, 0x80]).collect::<Vec<_>>(),
            [Ok(1), Ok(128), Err(Malformed)]
        );
    }
}
