use std::sync::Arc;

use bytes::Bytes;

use super::feeding::index;
use super::*;
use crate::clock::Timestamp;
use crate::kv_events::{Line, Numbered, Taken};

const NOW: Timestamp = Timestamp::START;

fn line() -> Line {
    let index = index();
    let holder = Arc::new(index.holder());
    Line::new(index, holder, "kv@".into())
}

/// A batch that stores one block of its own.
fn numbered(number: u64) -> Numbered {
    let payload = batch(vec![stored(&[number + 1], None, &[number as u32, 0, 0, 0])]);
    Numbered { topic: Bytes::from_static(b"kv@a@m"), number, payload: payload.into() }
}

/// (numbers that come live, what the last is taken for, blocks held then, restarts, resets)
#[test]
fn what_comes_live() {
    let missing = |from| Taken::Missing { from };
    let cases: [(&[u64], Taken, usize, u64, u64); 7] = [
        (&[0, 1, 2], Taken::Done, 3, 0, 0),
        (&[1, 2], Taken::Done, 2, 0, 0),
        (&[5], missing(0), 0, 0, 0),
        (&[0, 1, 3], missing(2), 2, 0, 0),
        (&[0, 1, 0], Taken::Done, 1, 1, 1),
        (&[0, 1, 1], Taken::Done, 1, 1, 1),
        (&[0, 1, 2, 3, 4, 2], missing(0), 0, 1, 1),
    ];
    for (numbers, taken, held, restarts, resets) in cases {
        let mut line = line();
        let last = numbers.iter().map(|&number| line.live(&numbered(number), NOW)).last();
        assert_eq!(last, Some(taken), "{numbers:?}");
        assert_eq!(line.holder().len(), held, "{numbers:?}");
        let counters = line.status().counters.clone();
        assert_eq!(
            (counters.restarts.get(), counters.resets.get()),
            (restarts, resets),
            "{numbers:?}"
        );
    }
}

#[test]
fn what_cannot_be_had_costs_what_was_known() {
    let mut line = line();
    line.live(&numbered(0), NOW);
    line.live(&numbered(7), NOW);
    line.go_on_from(&numbered(7));
    assert_eq!((line.holder().len(), line.last()), (1, Some(7)));
    assert_eq!(line.live(&numbered(8), NOW), Taken::Done);
    // A stream that is joined late has nothing to lose.
    let mut late = super::lines::line();
    late.live(&numbered(7), NOW);
    late.go_on_from(&numbered(7));
    assert_eq!(late.status().counters.resets.get(), 0);
}

#[test]
fn a_replay_fills_the_gap_and_what_came_meanwhile_follows() {
    let mut line = line();
    line.live(&numbered(0), NOW);
    assert_eq!(line.live(&numbered(3), NOW), Taken::Missing { from: 1 });
    (1..=4).for_each(|number| line.replayed(&numbered(number)));
    for number in [3, 4, 5] {
        assert_eq!(line.set_aside(&numbered(number)), Taken::Done);
    }
    assert_eq!((line.holder().len(), line.last()), (6, Some(5)));
    let counters = &line.status().counters;
    assert_eq!((counters.resets.get(), counters.batches_replayed.get()), (0, 4));
}

#[test]
fn a_replay_that_begins_too_late_resets() {
    let mut line = line();
    line.live(&numbered(0), NOW);
    (5..=6).for_each(|number| line.replayed(&numbered(number)));
    assert_eq!((line.holder().len(), line.last()), (2, Some(6)));
    assert_eq!(line.status().counters.resets.get(), 1);
}

#[test]
fn a_publisher_shows_that_it_is_the_same_by_its_last_batch() {
    let mut line = line();
    line.live(&numbered(0), NOW);
    assert!(line.is_last(&numbered(0)));
    assert!(!line.is_last(&numbered(1)));
    assert!(!line.is_last(&Numbered { payload: batch(vec![]).into(), ..numbered(0) }));
}

#[test]
fn topics_that_do_not_fit_are_counted_and_named_and_their_events_taken_in() {
    let mut line = line();
    assert_eq!(line.status().other_topic(), None);
    line.live(&Numbered { topic: Bytes::new(), ..numbered(0) }, NOW);
    line.live(&Numbered { topic: Bytes::from_static(b"\xffevents"), ..numbered(1) }, NOW);
    assert_eq!(line.status().other_topic().as_deref(), Some("\u{fffd}events"));
    assert_eq!(line.status().counters.topics_unmatched.get(), 2);
    assert_eq!(line.holder().len(), 2);
}
