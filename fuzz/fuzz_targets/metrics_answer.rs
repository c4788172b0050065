//! Whatever bytes a worker answers with, however they arrive, reading them ends in a payload or
//! an error.

#![no_main]

use epp::datalayer::http::Buffer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (part, drops, answer) = input;
    let mut buffer = Buffer::default();
    let mut head = None;
    for part in answer.chunks(usize::from(part).max(1)) {
        let mut part = part;
        if let (true, Some(body)) = (drops, head.as_mut()) {
            let body: &mut epp::datalayer::http::Body = body;
            let n = part.len().min(body.droppable() as usize);
            if body.passed(n as u64).is_err() {
                return;
            }
            part = &part[n..];
        }
        buffer.room(part.len()).copy_from_slice(part);
        buffer.filled(part.len());
        if head.is_none() {
            let Ok(read) = buffer.head() else { return };
            head = read.map(|head| head.body);
        }
        if let Some(body) = &mut head
            && body.decode(&mut buffer).is_err()
        {
            return;
        }
        assert!(buffer.payload().len() <= answer.len());
    }
});
