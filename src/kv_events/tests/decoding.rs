use proptest::prelude::*;
use rmpv::Value;

use super::*;
use crate::kv_events::decode::{MAX_BLOCKS, MAX_EVENTS};
use crate::kv_events::msgpack::{Kind, Malformed, Reader};
use crate::kv_events::{Batch, Decoder, Event, GroupKind};

/// An event that outlives the decoder's memory.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    kind: &'static str,
    hashes: Vec<u64>,
    parent: Option<u64>,
    tokens: Vec<u32>,
    block_size: u32,
    medium: Option<String>,
    lora: Option<String>,
    extras: Vec<(u32, Vec<u8>)>,
    group: Option<u32>,
    is_full: Option<bool>,
    is_remote: bool,
}

fn seen(event: Event<'_>) -> Seen {
    let text = |text: Option<&str>| text.map(str::to_owned);
    match event {
        Event::Stored(e) => Seen {
            kind: "stored",
            hashes: e.hashes.to_vec(),
            parent: e.parent,
            tokens: e.tokens.to_vec(),
            block_size: e.block_size,
            medium: text(e.medium),
            lora: text(e.lora_name),
            extras: e
                .extras
                .iter()
                .map(|(b, at)| (*b, e.payload[at.start as usize..at.end as usize].to_vec()))
                .collect(),
            group: e.group,
            is_full: e.kind.map(|kind| kind == GroupKind::Full),
            is_remote: e.is_remote,
        },
        Event::Removed(e) => Seen {
            kind: "removed",
            hashes: e.hashes.to_vec(),
            medium: text(e.medium),
            group: e.group,
            is_remote: e.is_remote,
            ..Seen::default()
        },
        Event::Cleared => Seen { kind: "cleared", ..Seen::default() },
    }
}

fn decoded(payload: &[u8]) -> (Result<Batch, Malformed>, Vec<Seen>) {
    let mut events = Vec::new();
    let batch = Decoder::default().decode(payload, &mut |event| events.push(seen(event)));
    (batch, events)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |b: u8| (b as char).to_digit(16).unwrap() as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Bytes as the releases write them; the events they must be read as.
#[test]
fn payloads_of_engines() {
    let four = || Seen {
        kind: "stored",
        hashes: vec![7],
        tokens: vec![1, 2, 3, 4],
        block_size: 4,
        medium: Some("GPU".into()),
        ..Seen::default()
    };
    let cases = [
        (
            "vLLM 0.32, stored",
            "93cb3ff8000000000000918ba474797065ab426c6f636b53746f726564ac626c6f636b5f68617368657391
             cf8000000000000005b1706172656e745f626c6f636b5f68617368c0a9746f6b656e5f6964739401020304
             aa626c6f636b5f73697a6504a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c0
             aa65787472615f6b65797391c0a967726f75705f69647800b26b765f63616368655f737065635f6b696e64
             ae66756c6c5f617474656e74696f6e00",
            Seen { hashes: vec![(1 << 63) + 5], group: Some(0), is_full: Some(true), ..four() },
        ),
        (
            "vLLM 0.32, removed",
            "93cb3ff80000000000009184a474797065ac426c6f636b52656d6f766564ac626c6f636b5f686173686573
             9107a66d656469756da3475055a967726f75705f6964780000",
            Seen {
                kind: "removed",
                hashes: vec![7],
                medium: Some("GPU".into()),
                group: Some(0),
                ..Seen::default()
            },
        ),
        (
            "vLLM 0.32, cleared",
            "93cb3ff80000000000009181a474797065b0416c6c426c6f636b73436c656172656400",
            Seen { kind: "cleared", ..Seen::default() },
        ),
        (
            "vLLM 0.18, stored",
            "93cb3ff80000000000009199ab426c6f636b53746f7265649107c0940102030404c0a3475055c0c000",
            four(),
        ),
        (
            "vLLM 0.22, stored",
            "93cb3ff8000000000000919cab426c6f636b53746f726564920b16c098000102030405060704c0a3475055
             c0c0c0c0c000",
            Seen { hashes: vec![11, 22], tokens: (0..8).collect(), ..four() },
        ),
        (
            "an array, removed, hash of 32 bytes",
            "93cb3ff80000000000009193ac426c6f636b52656d6f76656491c420
             0101010101010101010101010101010101010101010101010101010101010101a347505500",
            Seen {
                kind: "removed",
                hashes: vec![0x0101_0101_0101_0101],
                medium: Some("GPU".into()),
                ..Seen::default()
            },
        ),
        (
            "an array, cleared",
            "93cb3ff80000000000009191b0416c6c426c6f636b73436c656172656400",
            Seen { kind: "cleared", ..Seen::default() },
        ),
    ];
    for (name, bytes, event) in cases {
        let (batch, events) = decoded(&hex(bytes));
        let expected =
            Batch { made_at: 1.5, data_parallel_rank: Some(0), events: 1, ..Batch::default() };
        assert_eq!(batch, Ok(expected), "{name}");
        assert_eq!(events, [event], "{name}");
    }
}

/// The same bytes come out of the encoder that the other tests use.
#[test]
fn the_tests_encode_as_vllm_does() {
    let bytes = hex(
        "93cb3ff8000000000000918ba474797065ab426c6f636b53746f726564ac626c6f636b5f6861736865739107
         b1706172656e745f626c6f636b5f68617368c0a9746f6b656e5f6964739401020304aa626c6f636b5f73697a
         6504a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c0aa65787472615f6b657973
         91c0a967726f75705f69647800b26b765f63616368655f737065635f6b696e64ae66756c6c5f617474656e74
         696f6e00",
    );
    assert_eq!(batch(vec![stored(&[7], None, &[1, 2, 3, 4])]), bytes);
}

fn array_stored(tail: Vec<Value>) -> Value {
    let mut fields =
        vec!["BlockStored".into(), list([9u64]), Value::from(8), list([1u32, 2]), 2.into()];
    fields.extend(tail);
    Value::Array(fields)
}

/// Forms of single fields, in arrays and maps.
#[test]
fn forms_of_fields() {
    let plain = || Seen {
        kind: "stored",
        hashes: vec![9],
        parent: Some(8),
        tokens: vec![1, 2],
        block_size: 2,
        ..Seen::default()
    };
    let four = || Seen {
        kind: "stored",
        hashes: vec![7],
        tokens: vec![1, 2, 3, 4],
        block_size: 4,
        medium: Some("GPU".into()),
        group: Some(0),
        is_full: Some(true),
        ..Seen::default()
    };
    let base = || stored(&[7], None, &[1, 2, 3, 4]);
    let nil = || Value::Nil;
    let cases: Vec<(&str, Value, Seen)> = vec![
        ("no tail at all", array_stored(vec![]), plain()),
        (
            "a longer tail than any release has",
            array_stored(vec![nil(), nil(), nil(), nil(), nil(), nil(), nil(), 1.into(), map(&[])]),
            plain(),
        ),
        (
            "adapter, image and salt in arrays",
            array_stored(vec![
                1.into(),
                "CPU".into(),
                "sql".into(),
                Value::Array(vec![Value::Array(vec![
                    "sql".into(),
                    Value::Array(vec!["img".into(), 3.into()]),
                    "salt".into(),
                    Value::Binary(vec![1, 2]),
                ])]),
                2.into(),
                "sliding_window".into(),
                128.into(),
            ]),
            Seen {
                medium: Some("CPU".into()),
                lora: Some("sql".into()),
                extras: [&b"sql"[..], b"img", b"salt", &[1, 2]].map(|e| (0, e.to_vec())).into(),
                group: Some(2),
                is_full: Some(false),
                ..plain()
            },
        ),
        (
            "signed hashes",
            Value::Array(vec!["BlockRemoved".into(), list([-1i64, i64::MIN, 5])]),
            Seen { kind: "removed", hashes: vec![u64::MAX, 1 << 63, 5], ..Seen::default() },
        ),
        (
            "hashes of 16 bytes count by their last eight",
            with(
                base(),
                "block_hashes",
                list([&[1u8, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 6][..]]),
            ),
            Seen { hashes: vec![6], ..four() },
        ),
        (
            "pairs of tokens, as with speculative decoding in SGLang",
            with(base(), "token_ids", list([list([1, 2]), list([2, 3])])),
            Seen { tokens: vec![1, 2], ..four() },
        ),
        (
            "SGLang's map with a salt",
            Value::Array(vec![
                "BlockStored".into(),
                list([9u64]),
                nil(),
                list([1u32, 2]),
                2.into(),
                nil(),
                "GPU".into(),
                map(&[("other", list([1])), ("cache_salt", "s".into())]),
            ]),
            Seen {
                parent: None,
                medium: Some("GPU".into()),
                extras: vec![(0, b"s".into())],
                ..plain()
            },
        ),
        (
            "TensorRT-LLM's keys of media",
            with(
                base(),
                "mm_keys",
                list([list([map(&[("type", "mm_key".into()), ("hash", "ab".into())])])]),
            ),
            Seen { extras: vec![(0, b"ab".into())], ..four() },
        ),
        (
            "a store that engines share",
            with(with(base(), "locality", "REMOTE"), "ownership", "x"),
            Seen { is_remote: true, ..four() },
        ),
        (
            "a copy without tokens",
            with(
                with(with(base(), "token_ids", list(Vec::<u32>::new())), "block_size", 0),
                "medium",
                "CPU",
            ),
            Seen { tokens: vec![], block_size: 0, medium: Some("CPU".into()), ..four() },
        ),
        ("fields nobody knows", with(base(), "session_id", map(&[("a", list([1]))])), four()),
    ];
    for (name, event, expected) in cases {
        let (batch, events) = decoded(&batch(vec![event]));
        assert_eq!(batch.map(|b| b.events), Ok(1), "{name}");
        assert_eq!(events, [expected], "{name}");
    }
}

/// Batches in forms that were published at times.
#[test]
fn forms_of_batches() {
    let events = || Value::Array(vec![cleared()]);
    let cases = [
        ("without a rank", Value::Array(vec![1.5.into(), events()]), None),
        ("rank nil", Value::Array(vec![1.5.into(), events(), Value::Nil]), None),
        ("rank", Value::Array(vec![1.5.into(), events(), 3.into(), 4.into()]), Some(3)),
        (
            "a map",
            map(&[("ts", 1.5.into()), ("events", events()), ("data_parallel_rank", 3.into())]),
            Some(3),
        ),
    ];
    for (name, value, rank) in cases {
        let (batch, events) = decoded(&encoded(&value));
        let expected =
            Batch { made_at: 1.5, data_parallel_rank: rank, events: 1, ..Batch::default() };
        assert_eq!(batch, Ok(expected), "{name}");
        assert_eq!(events.len(), 1, "{name}");
    }
}

/// One odd event costs itself: (event, malformed, unknown, oversized).
#[test]
fn odd_events() {
    let base = || stored(&[7], None, &[1, 2, 3, 4]);
    let cases = [
        ("no event", 7.into(), (1, 0, 0)),
        ("an empty array", list(Vec::<u32>::new()), (1, 0, 0)),
        ("no type", map(&[("block_hashes", list([1u64]))]), (0, 1, 0)),
        ("a type of tomorrow", map(&[("type", "BlockMoved".into())]), (0, 1, 0)),
        ("the same in an array", list(["BlockMoved", "x"]), (0, 1, 0)),
        ("no hashes", map(&[("type", "BlockRemoved".into())]), (1, 0, 0)),
        ("a text for a hash's list", with(base(), "block_hashes", "x"), (1, 0, 0)),
        ("texts among the tokens", with(base(), "token_ids", list(["a"])), (1, 0, 0)),
        ("a negative token", with(base(), "token_ids", list([-1])), (1, 0, 0)),
        ("a token of 64 bits", with(base(), "token_ids", list([1u64 << 32])), (1, 0, 0)),
        ("a negative block size", with(base(), "block_size", -4), (1, 0, 0)),
        ("a long name", with(base(), "lora_name", "x".repeat(2000)), (0, 0, 1)),
        ("many blocks", with(base(), "block_hashes", list(vec![1u64; MAX_BLOCKS + 1])), (0, 0, 1)),
    ];
    for (name, event, counts) in cases {
        let (batch, events) = decoded(&batch(vec![cleared(), event, removed(&[1])]));
        let batch = batch.expect(name);
        assert_eq!((batch.malformed, batch.unknown, batch.oversized), counts, "{name}");
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["cleared", "removed"], "{name}");
    }
}

#[test]
fn events_above_the_limit_are_counted() {
    let (batch, events) = decoded(&batch(vec![cleared(); MAX_EVENTS + 3]));
    assert_eq!(batch.map(|b| b.oversized), Ok(3));
    assert_eq!(events.len(), MAX_EVENTS);
}

#[test]
fn batches_that_cannot_be_read() {
    let deep = (0..40).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    let cases = [
        ("nothing", vec![], Malformed::Truncated),
        ("a number", vec![7], Malformed::UnexpectedType),
        ("too short", encoded(&list([1.5])), Malformed::Truncated),
        ("more elements than bytes", hex("93cb3ff8000000000000ddffffffff"), Malformed::Truncated),
        ("a byte that is never used", hex("93cb3ff800000000000091c1"), Malformed::UnexpectedType),
        ("nested without end", batch(vec![deep]), Malformed::TooDeep),
    ];
    for (name, bytes, error) in cases {
        assert_eq!(decoded(&bytes).0, Err(error), "{name}");
    }
}

/// Any value of MessagePack.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Binary),
        "[a-zé]{0,40}".prop_map(Value::from),
        (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(5, 60, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            proptest::collection::vec((inner.clone(), inner), 0..18).prop_map(Value::Map),
        ]
    })
}

proptest! {
    /// Whatever lies in a payload can be stepped over to its very end.
    #[test]
    fn skipping(value in value(), tail in any::<u8>()) {
        let mut bytes = encoded(&value);
        bytes.push(tail);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.skip(), Ok(()));
        prop_assert_eq!(reader.left(), 1);
    }

    #[test]
    fn integers(number: i64) {
        let bytes = encoded(&number.into());
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.peek(), Ok(Kind::Int));
        prop_assert_eq!(reader.bits(), Ok(number.cast_unsigned()));
        prop_assert_eq!(Reader::new(&bytes).u32().ok(), u32::try_from(number).ok());
    }

    /// Where a payload is cut, only whole events before the cut are seen.
    #[test]
    fn cut(at in any::<prop::sample::Index>()) {
        let whole = batch(vec![stored(&[1, 2], None, &[1, 2, 3, 4, 500, 6, 7, 70_000]), removed(&[1])]);
        let (_, all) = decoded(&whole);
        let cut = at.index(whole.len() - 1);
        let (batch, some) = decoded(&whole[..cut]);
        prop_assert!(batch.is_err());
        prop_assert_eq!(&some[..], &all[..some.len()]);
    }

    /// Bytes changed at random do no harm.
    #[test]
    fn changed(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = batch(vec![stored(&[1, 2], None, &[1, 2, 3, 4, 5, 6, 7, 8]), cleared()]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (batch, events) = decoded(&bytes);
        prop_assert!(batch.is_err() || batch.is_ok_and(|b| b.events as usize == events.len()));
    }
}

/// Payloads recorded from real engines, where they lie beside the repository. Each line with raw
/// bytes must be read whole, without one odd event.
#[test]
fn recorded_payloads() {
    let name = "shared/samples/vllm-kvevents.txt";
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["..", "../.."].map(|up| root.join(up).join(name));
    let Some(text) = places.iter().find_map(|path| std::fs::read_to_string(path).ok()) else {
        eprintln!("skipped: ../{name} is not here");
        return;
    };
    let payloads = text.lines().filter_map(|line| {
        let is_raw = line.starts_with("raw frame2 hex: ") || line.starts_with("raw hex: ");
        let bytes = line.rsplit_once([':', ' '])?.1;
        (is_raw || line.contains(" raw 93")).then(|| hex(bytes))
    });
    let mut kinds = std::collections::BTreeMap::new();
    for payload in payloads {
        let (batch, events) = decoded(&payload);
        let batch = batch.expect("a batch");
        assert_eq!((batch.malformed, batch.unknown, batch.oversized), (0, 0, 0));
        assert_eq!(batch.data_parallel_rank, Some(0));
        for event in events {
            let blocks = event.block_size as usize * event.hashes.len();
            assert!(event.kind != "stored" || event.tokens.len() == blocks, "{event:?}");
            *kinds.entry(event.kind).or_insert(0) += 1;
        }
    }
    assert!(["stored", "removed", "cleared"].iter().all(|kind| kinds[kind] >= 2), "{kinds:?}");
}
