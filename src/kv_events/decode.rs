use std::ops::Range;

use super::event::{Batch, Event, GroupKind, Removed, Stored};
use super::msgpack::{Kind, Malformed, Reader};

/// Events read of one batch; engines flush at every scheduler step, so honest batches are far
/// smaller.
pub const MAX_EVENTS: usize = 65_536;
/// Tokens of one event: the longest contexts that models are served with, with room.
pub const MAX_TOKENS: usize = 4 << 20;
/// Blocks of one event.
pub const MAX_BLOCKS: usize = 1 << 20;
/// Extra keys of one event.
const MAX_EXTRAS: usize = 1 << 18;
/// Longest text that is kept: a model's name, a salt, the digest of an image.
const MAX_TEXT: usize = 1024;
/// Elements that scratch memory keeps from batch to batch.
const KEPT_SCRATCH: usize = 1 << 16;

/// Reads batches of block events as vLLM, SGLang, TensorRT-LLM and what imitates them publish
/// them: `[ts, events, data_parallel_rank]`, each event an array led by its type (vLLM up to 0.23,
/// SGLang) or a map with the key `type` (vLLM from 0.24, TensorRT-LLM).
///
/// Fields that are not known are stepped over, arrays may be longer or shorter than any release
/// makes them, and an event that cannot be read costs itself only.
#[derive(Debug, Default)]
pub struct Decoder {
    hashes: Vec<u64>,
    tokens: Vec<u32>,
    extras: Vec<(u32, Range<u32>)>,
}

/// Why one event is left out.
enum Fault {
    Malformed,
    Oversized,
    UnknownType,
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What one event says, without what lies in the decoder's scratch memory.
#[derive(Default)]
struct Fields<'a> {
    parent: Option<u64>,
    block_size: u32,
    lora_id: Option<u64>,
    lora_name: Option<&'a str>,
    medium: Option<&'a str>,
    salt: Option<&'a [u8]>,
    group: Option<u32>,
    kind: Option<GroupKind>,
    is_remote: bool,
    has_hashes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Stored,
    Removed,
    Cleared,
}

impl Type {
    fn parse(name: &str) -> Result<Self, Fault> {
        match name {
            "BlockStored" => Ok(Self::Stored),
            "BlockRemoved" => Ok(Self::Removed),
            "AllBlocksCleared" => Ok(Self::Cleared),
            _ => Err(Fault::UnknownType),
        }
    }
}

/// A field of an event, by its place in an array or its name in a map.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    ExtraKeys,
    MediaKeys,
    Group,
    Kind,
    Locality,
    Other,
}

impl Field {
    /// Fields of the array form behind the type, in vLLM's order.
    fn at(event: Type, place: usize) -> Self {
        use Field::{
            BlockSize, ExtraKeys, Group, Hashes, Kind, LoraId, LoraName, Medium, Other, Parent,
            Tokens,
        };
        let fields: &[Self] = match event {
            Type::Stored => &[
                Hashes, Parent, Tokens, BlockSize, LoraId, Medium, LoraName, ExtraKeys, Group, Kind,
            ],
            Type::Removed => &[Hashes, Medium, Group],
            Type::Cleared => &[],
        };
        fields.get(place).copied().unwrap_or(Other)
    }

    fn named(name: &[u8]) -> Self {
        match name {
            b"block_hashes" => Self::Hashes,
            b"parent_block_hash" => Self::Parent,
            b"token_ids" => Self::Tokens,
            b"block_size" => Self::BlockSize,
            b"lora_id" => Self::LoraId,
            b"medium" => Self::Medium,
            b"lora_name" => Self::LoraName,
            b"extra_keys" => Self::ExtraKeys,
            b"mm_keys" => Self::MediaKeys,
            b"group_idx" => Self::Group,
            b"kv_cache_spec_kind" => Self::Kind,
            b"locality" => Self::Locality,
            _ => Self::Other,
        }
    }
}

impl Decoder {
    /// Hands the events of `payload` to `sink` in order.
    ///
    /// # Errors
    /// Where the batch around the events cannot be read, or an event whose end cannot be found.
    /// Events before that place have been handed on.
    pub fn decode(
        &mut self,
        payload: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<Batch, Malformed> {
        let mut batch = Batch::default();
        let mut reader = Reader::new(payload);
        let result = match reader.peek()? {
            Kind::Map => self.map_batch(&mut reader, payload, &mut batch, sink),
            _ => self.array_batch(&mut reader, payload, &mut batch, sink),
        };
        self.trim();
        result.map(|()| batch)
    }

    fn array_batch(
        &mut self,
        reader: &mut Reader<'_>,
        payload: &[u8],
        batch: &mut Batch,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        let len = reader.array()?;
        if len < 2 {
            return Err(Malformed::Truncated);
        }
        batch.made_at = reader.f64()?;
        self.events(reader, payload, batch, sink)?;
        if len > 2 {
            batch.data_parallel_rank = optional(reader, |r| r.u32())?;
        }
        Ok(())
    }

    fn map_batch(
        &mut self,
        reader: &mut Reader<'_>,
        payload: &[u8],
        batch: &mut Batch,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        for _ in 0..reader.map()? {
            match reader.text_or_bytes()? {
                b"ts" => batch.made_at = reader.f64()?,
                b"events" => self.events(reader, payload, batch, sink)?,
                b"data_parallel_rank" => {
                    batch.data_parallel_rank = optional(reader, |r| r.u32())?;
                }
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    fn events(
        &mut self,
        reader: &mut Reader<'_>,
        payload: &[u8],
        batch: &mut Batch,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        for place in 0..reader.array()? {
            if place >= MAX_EVENTS {
                batch.oversized += 1;
                reader.skip()?;
                continue;
            }
            let start = *reader;
            match self.read_event(reader, payload) {
                Ok((kind, fields)) => {
                    batch.events += 1;
                    sink(self.event(kind, &fields, payload));
                    continue;
                }
                Err(Fault::Malformed) => batch.malformed += 1,
                Err(Fault::Oversized) => batch.oversized += 1,
                Err(Fault::UnknownType) => batch.unknown += 1,
            }
            *reader = start;
            reader.skip()?;
        }
        Ok(())
    }

    /// Reads one event: its lists into the scratch memory, the rest into the answer.
    fn read_event<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        payload: &[u8],
    ) -> Result<(Type, Fields<'a>), Fault> {
        self.hashes.clear();
        self.tokens.clear();
        self.extras.clear();
        let mut fields = Fields::default();
        let kind = match reader.peek()? {
            Kind::Map => self.map_event(reader, payload, &mut fields)?,
            _ => self.array_event(reader, payload, &mut fields)?,
        };
        if kind != Type::Cleared && !fields.has_hashes {
            return Err(Malformed::Truncated.into());
        }
        if let (None, Some(salt)) = (fields.parent, fields.salt) {
            self.extras.insert(0, (0, place_of(payload, salt)));
        }
        Ok((kind, fields))
    }

    fn event<'a>(&'a self, kind: Type, fields: &Fields<'a>, payload: &'a [u8]) -> Event<'a> {
        match kind {
            Type::Cleared => Event::Cleared,
            Type::Removed => Event::Removed(Removed {
                hashes: &self.hashes,
                medium: fields.medium,
                group: fields.group,
                is_remote: fields.is_remote,
            }),
            Type::Stored => Event::Stored(Stored {
                hashes: &self.hashes,
                parent: fields.parent,
                tokens: &self.tokens,
                block_size: fields.block_size,
                medium: fields.medium,
                lora_name: fields.lora_name,
                lora_id: fields.lora_id,
                extras: &self.extras,
                payload,
                group: fields.group,
                kind: fields.kind,
                is_remote: fields.is_remote,
            }),
        }
    }

    fn array_event<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        payload: &[u8],
        fields: &mut Fields<'a>,
    ) -> Result<Type, Fault> {
        let len = reader.array()?;
        let Some(places) = len.checked_sub(1) else { return Err(Malformed::Truncated.into()) };
        let kind = Type::parse(reader.text()?)?;
        for place in 0..places {
            self.field(Field::at(kind, place), reader, payload, fields)?;
        }
        Ok(kind)
    }

    fn map_event<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        payload: &[u8],
        fields: &mut Fields<'a>,
    ) -> Result<Type, Fault> {
        let mut kind = None;
        for _ in 0..reader.map()? {
            match reader.text_or_bytes()? {
                b"type" => kind = Some(Type::parse(reader.text()?)?),
                name => self.field(Field::named(name), reader, payload, fields)?,
            }
        }
        kind.ok_or(Fault::UnknownType)
    }

    fn field<'a>(
        &mut self,
        field: Field,
        reader: &mut Reader<'a>,
        payload: &[u8],
        fields: &mut Fields<'a>,
    ) -> Result<(), Fault> {
        match field {
            Field::Hashes => {
                self.read_hashes(reader)?;
                fields.has_hashes = true;
            }
            Field::Parent => fields.parent = optional(reader, hash)?,
            Field::Tokens => self.read_tokens(reader)?,
            Field::BlockSize => fields.block_size = optional(reader, |r| r.u32())?.unwrap_or(0),
            Field::LoraId => fields.lora_id = optional(reader, |r| r.bits())?,
            Field::Medium => fields.medium = optional(reader, short_text)?,
            Field::LoraName => match reader.peek()? {
                // SGLang has a map of further data here.
                Kind::Map => fields.salt = salt(reader)?,
                _ => fields.lora_name = optional(reader, short_text)?,
            },
            Field::ExtraKeys | Field::MediaKeys => self.read_extras(reader, payload)?,
            Field::Group => fields.group = optional(reader, |r| r.u32())?,
            Field::Kind => {
                fields.kind =
                    optional(reader, short_text)?.map(|kind| GroupKind::parse(Some(kind)));
            }
            Field::Locality => {
                fields.is_remote = optional(reader, short_text)?
                    .is_some_and(|locality| locality.eq_ignore_ascii_case("REMOTE"));
            }
            Field::Other => reader.skip()?,
        }
        Ok(())
    }

    fn read_hashes(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let len = reader.array()?;
        if len > MAX_BLOCKS {
            return Err(Fault::Oversized);
        }
        self.hashes.clear();
        for _ in 0..len {
            self.hashes.push(hash(reader)?);
        }
        Ok(())
    }

    fn read_tokens(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        if reader.nil()? {
            return Ok(());
        }
        let len = reader.array()?;
        if len > MAX_TOKENS {
            return Err(Fault::Oversized);
        }
        self.tokens.clear();
        self.tokens.reserve(len);
        for _ in 0..len {
            // With speculative decoding SGLang pairs every token with the one after it.
            if reader.peek()? == Kind::Array {
                if reader.array()? != 2 {
                    return Err(Malformed::UnexpectedType.into());
                }
                self.tokens.push(reader.u32()?);
                reader.u32()?;
            } else {
                self.tokens.push(reader.u32()?);
            }
        }
        Ok(())
    }

    /// Per block nil, or a list of what makes its content differ beside the tokens: texts
    /// (adapters, salts), digests, `[media id, offset]`, or maps with a `hash`.
    fn read_extras(&mut self, reader: &mut Reader<'_>, payload: &[u8]) -> Result<(), Fault> {
        if reader.nil()? {
            return Ok(());
        }
        let blocks = u32::try_from(reader.array()?).map_err(|_| Fault::Oversized)?;
        for block in 0..blocks {
            match reader.peek()? {
                Kind::Array => {
                    for _ in 0..reader.array()? {
                        self.read_extra(block, reader, payload)?;
                    }
                }
                _ => self.read_extra(block, reader, payload)?,
            }
        }
        Ok(())
    }

    fn read_extra(
        &mut self,
        block: u32,
        reader: &mut Reader<'_>,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let bytes = match reader.peek()? {
            Kind::Text | Kind::Bytes => reader.text_or_bytes()?,
            Kind::Array => {
                let len = reader.array()?;
                if len == 0 {
                    return Ok(());
                }
                let id = match reader.peek()? {
                    Kind::Text | Kind::Bytes => reader.text_or_bytes()?,
                    _ => {
                        reader.skip()?;
                        &[]
                    }
                };
                for _ in 1..len {
                    reader.skip()?;
                }
                id
            }
            Kind::Map => named_text(reader, b"hash")?.unwrap_or_default(),
            _ => {
                reader.skip()?;
                return Ok(());
            }
        };
        if bytes.len() > MAX_TEXT || self.extras.len() >= MAX_EXTRAS {
            return Err(Fault::Oversized);
        }
        self.extras.push((block, place_of(payload, bytes)));
        Ok(())
    }

    /// Gives back what an unusually large batch took.
    fn trim(&mut self) {
        self.hashes.clear();
        self.hashes.shrink_to(KEPT_SCRATCH);
        self.tokens.clear();
        self.tokens.shrink_to(KEPT_SCRATCH);
        self.extras.clear();
        self.extras.shrink_to(KEPT_SCRATCH);
    }
}

/// Where `part`, a slice of `payload`, lies in it.
fn place_of(payload: &[u8], part: &[u8]) -> Range<u32> {
    let start = part.as_ptr().addr().saturating_sub(payload.as_ptr().addr());
    let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
    place(start)..place(start.saturating_add(part.len()))
}

/// Nil, or a value.
fn optional<'a, T, E: From<Malformed>>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, E>,
) -> Result<Option<T>, E> {
    if reader.nil()? { Ok(None) } else { read(reader).map(Some) }
}

/// The engine's name of a block: an integer, or bytes of which it is the last eight, as vLLM
/// itself shortens them.
fn hash(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    if reader.peek()? == Kind::Int {
        return reader.bits();
    }
    let bytes = reader.text_or_bytes()?;
    let from = bytes.len().saturating_sub(8);
    Ok(bytes.iter().skip(from).fold(0, |hash, &byte| hash << 8 | u64::from(byte)))
}

fn short_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Fault> {
    let text = reader.text()?;
    if text.len() > MAX_TEXT { Err(Fault::Oversized) } else { Ok(text) }
}

fn salt<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Fault> {
    let salt = named_text(reader, b"cache_salt")?;
    if salt.is_some_and(|salt| salt.len() > MAX_TEXT) { Err(Fault::Oversized) } else { Ok(salt) }
}

/// The text under `name` of a map, all of which is read.
fn named_text<'a>(reader: &mut Reader<'a>, name: &[u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let mut found = None;
    for _ in 0..reader.map()? {
        let is_named = match reader.peek()? {
            Kind::Text | Kind::Bytes => reader.text_or_bytes()? == name,
            _ => {
                reader.skip()?;
                false
            }
        };
        match reader.peek()? {
            Kind::Text | Kind::Bytes if is_named => found = Some(reader.text_or_bytes()?),
            _ => reader.skip()?,
        }
    }
    Ok(found)
}
