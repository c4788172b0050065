//! The part of MessagePack that events are made of, read where it lies.
//!
//! A reader of our own instead of `rmp-serde`: events are read field by field in either of two
//! layouts, unknown fields are stepped over, one odd event must not cost its batch, and no length
//! that a publisher states is believed before the bytes are there.

/// Containers inside one another that are stepped over at most.
const MAX_DEPTH: usize = 16;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the bytes end inside a value")]
    Truncated,
    #[error("a value is not of the type expected at its place")]
    UnexpectedType,
    #[error("a number does not fit its place")]
    OutOfRange,
    #[error("containers lie too deep in one another")]
    TooDeep,
    #[error("a text is not UTF-8")]
    NotUtf8,
}

type Read<T> = Result<T, Malformed>;

/// What kind of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nil,
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Array,
    Map,
    Extension,
}

/// A place in the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The kind of the next value, which is not read by that.
    pub fn peek(&self) -> Read<Kind> {
        Ok(match *self.bytes.first().ok_or(Malformed::Truncated)? {
            0x00..=0x7f | 0xcc..=0xd3 | 0xe0..=0xff => Kind::Int,
            0x80..=0x8f | 0xde | 0xdf => Kind::Map,
            0x90..=0x9f | 0xdc | 0xdd => Kind::Array,
            0xa0..=0xbf | 0xd9..=0xdb => Kind::Text,
            0xc0 => Kind::Nil,
            0xc2 | 0xc3 => Kind::Bool,
            0xc4..=0xc6 => Kind::Bytes,
            0xc7..=0xc9 | 0xd4..=0xd8 => Kind::Extension,
            0xca | 0xcb => Kind::Float,
            // Never used by MessagePack.
            0xc1 => return Err(Malformed::UnexpectedType),
        })
    }

    /// Reads nil, where it comes next.
    pub fn nil(&mut self) -> Read<bool> {
        if self.peek()? == Kind::Nil {
            self.take(1)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// An integer as 64 bits; a negative one as its two's complement, which is what engines that
    /// emit signed hashes mean by it.
    pub fn bits(&mut self) -> Read<u64> {
        Ok(match self.byte()? {
            small @ 0x00..=0x7f => u64::from(small),
            negative @ 0xe0..=0xff => i64::from(negative.cast_signed()).cast_unsigned(),
            0xcc => u64::from(self.byte()?),
            0xcd => u64::from(u16::from_be_bytes(self.fixed()?)),
            0xce => u64::from(u32::from_be_bytes(self.fixed()?)),
            0xcf => u64::from_be_bytes(self.fixed()?),
            0xd0 => i64::from(self.byte()?.cast_signed()).cast_unsigned(),
            0xd1 => i64::from(i16::from_be_bytes(self.fixed()?)).cast_unsigned(),
            0xd2 => i64::from(i32::from_be_bytes(self.fixed()?)).cast_unsigned(),
            0xd3 => u64::from_be_bytes(self.fixed()?),
            _ => return Err(Malformed::UnexpectedType),
        })
    }

    /// An integer from 0 to `u32::MAX`.
    pub fn u32(&mut self) -> Read<u32> {
        // Token ids are most of a payload: those from 256 to 65,535 come in this form.
        if let [0xcd, high, low, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Ok(u32::from(u16::from_be_bytes([*high, *low])));
        }
        let is_negative = matches!(self.bytes.first(), Some(0xe0..=0xff | 0xd0..=0xd3));
        let bits = self.bits()?;
        if is_negative && bits.cast_signed() < 0 {
            return Err(Malformed::OutOfRange);
        }
        u32::try_from(bits).map_err(|_| Malformed::OutOfRange)
    }

    /// A float, or an integer as one.
    pub fn f64(&mut self) -> Read<f64> {
        match self.bytes.first().ok_or(Malformed::Truncated)? {
            0xca => {
                self.take(1)?;
                Ok(f64::from(f32::from_be_bytes(self.fixed()?)))
            }
            0xcb => {
                self.take(1)?;
                Ok(f64::from_be_bytes(self.fixed()?))
            }
            _ => Ok(self.bits()?.cast_signed() as f64),
        }
    }

    /// # Errors
    /// Where the next value is no text, or no UTF-8.
    pub fn text(&mut self) -> Read<&'a str> {
        let bytes = self.text_bytes()?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)
    }

    /// The bytes of a text or of a binary value.
    pub fn text_or_bytes(&mut self) -> Read<&'a [u8]> {
        match self.peek()? {
            Kind::Text => self.text_bytes(),
            Kind::Bytes => {
                let len = match self.byte()? {
                    0xc4 => usize::from(self.byte()?),
                    0xc5 => usize::from(u16::from_be_bytes(self.fixed()?)),
                    _ => self.length32()?,
                };
                self.take(len)
            }
            _ => Err(Malformed::UnexpectedType),
        }
    }

    fn text_bytes(&mut self) -> Read<&'a [u8]> {
        let len = match self.byte()? {
            short @ 0xa0..=0xbf => usize::from(short & 0x1f),
            0xd9 => usize::from(self.byte()?),
            0xda => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xdb => self.length32()?,
            _ => return Err(Malformed::UnexpectedType),
        };
        self.take(len)
    }

    /// How many elements the next array says it has. Each takes at least one byte, so a length
    /// that cannot be true is refused here and may be counted on for reserving memory.
    pub fn array(&mut self) -> Read<usize> {
        let len = match self.byte()? {
            short @ 0x90..=0x9f => usize::from(short & 0x0f),
            0xdc => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xdd => self.length32()?,
            _ => return Err(Malformed::UnexpectedType),
        };
        if len > self.left() { Err(Malformed::Truncated) } else { Ok(len) }
    }

    /// How many pairs the next map says it has; as for arrays, it is not more than there can be.
    pub fn map(&mut self) -> Read<usize> {
        let len = match self.byte()? {
            short @ 0x80..=0x8f => usize::from(short & 0x0f),
            0xde => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xdf => self.length32()?,
            _ => return Err(Malformed::UnexpectedType),
        };
        if len > self.left() / 2 { Err(Malformed::Truncated) } else { Ok(len) }
    }

    /// Steps over the next value, whatever it is.
    pub fn skip(&mut self) -> Read<()> {
        // Values left on every level that is open.
        let mut open = [0usize; MAX_DEPTH];
        let mut depth = 0;
        loop {
            let inside = self.skip_head()?;
            if inside > 0 {
                let level = open.get_mut(depth).ok_or(Malformed::TooDeep)?;
                *level = inside;
                depth += 1;
                continue;
            }
            loop {
                let Some(level) = depth.checked_sub(1).and_then(|d| open.get_mut(d)) else {
                    return Ok(());
                };
                *level -= 1;
                if *level > 0 {
                    break;
                }
                depth -= 1;
            }
        }
    }

    /// Steps over a scalar, or over the head of a container; returns the values inside it.
    fn skip_head(&mut self) -> Read<usize> {
        match self.peek()? {
            Kind::Array => return self.array(),
            Kind::Map => return self.map().map(|pairs| 2 * pairs),
            Kind::Text => self.text_bytes().map(drop)?,
            Kind::Bytes => self.text_or_bytes().map(drop)?,
            Kind::Int => self.bits().map(drop)?,
            Kind::Float => self.f64().map(drop)?,
            Kind::Nil | Kind::Bool => self.take(1).map(drop)?,
            Kind::Extension => {
                let len = match self.byte()? {
                    fixed @ 0xd4..=0xd8 => 1 << (fixed - 0xd4),
                    0xc7 => usize::from(self.byte()?),
                    0xc8 => usize::from(u16::from_be_bytes(self.fixed()?)),
                    _ => self.length32()?,
                };
                self.take(1)?;
                self.take(len)?;
            }
        }
        Ok(0)
    }

    fn length32(&mut self) -> Read<usize> {
        usize::try_from(u32::from_be_bytes(self.fixed()?)).map_err(|_| Malformed::OutOfRange)
    }

    fn byte(&mut self) -> Read<u8> {
        let (&first, rest) = self.bytes.split_first().ok_or(Malformed::Truncated)?;
        self.bytes = rest;
        Ok(first)
    }

    fn fixed<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (&bytes, rest) = self.bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.bytes = rest;
        Ok(bytes)
    }

    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }
}
