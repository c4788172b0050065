//! Events as engines encode them.

mod decoding;
pub(crate) mod feeding;
mod lines;

use rmpv::Value;

/// A value in MessagePack.
pub(crate) fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory does not fail");
    bytes
}

pub(crate) fn list(values: impl IntoIterator<Item = impl Into<Value>>) -> Value {
    Value::Array(values.into_iter().map(Into::into).collect())
}

pub(crate) fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
}

/// A batch of rank 0.
pub(crate) fn batch(events: Vec<Value>) -> Vec<u8> {
    encoded(&Value::Array(vec![1.5.into(), Value::Array(events), 0.into()]))
}

/// Blocks of four tokens as vLLM 0.32 announces them.
pub(crate) fn stored(hashes: &[u64], parent: Option<u64>, tokens: &[u32]) -> Value {
    map(&[
        ("type", "BlockStored".into()),
        ("block_hashes", list(hashes.iter().copied())),
        ("parent_block_hash", parent.map_or(Value::Nil, Value::from)),
        ("token_ids", list(tokens.iter().copied())),
        ("block_size", 4.into()),
        ("lora_id", Value::Nil),
        ("medium", "GPU".into()),
        ("lora_name", Value::Nil),
        ("extra_keys", list(hashes.iter().map(|_| Value::Nil))),
        ("group_idx", 0.into()),
        ("kv_cache_spec_kind", "full_attention".into()),
    ])
}

pub(crate) fn removed(hashes: &[u64]) -> Value {
    map(&[
        ("type", "BlockRemoved".into()),
        ("block_hashes", list(hashes.iter().copied())),
        ("medium", "GPU".into()),
        ("group_idx", 0.into()),
    ])
}

pub(crate) fn cleared() -> Value {
    map(&[("type", "AllBlocksCleared".into())])
}

/// `value` with `field` set to something else.
pub(crate) fn with(value: Value, field: &str, to: impl Into<Value>) -> Value {
    let Value::Map(mut fields) = value else { panic!("events are maps here") };
    fields.retain(|(name, _)| name.as_str() != Some(field));
    fields.push((field.into(), to.into()));
    Value::Map(fields)
}
