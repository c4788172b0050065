use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ZmtpError;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A part of a message; with whether another part follows.
    Part(Bytes, bool),
    Command(Bytes),
}

/// Takes the next frame off `buffer`, where all of it is there. The bytes are not copied.
///
/// # Errors
/// Where the frame says it is longer than `max` bytes (which is not waited for), or is none.
pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, ZmtpError> {
    let Some(&flags) = buffer.first() else { return Ok(None) };
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(ZmtpError::NotZmtp);
    }
    let (head, len) = if flags & LONG == 0 {
        let Some(&len) = buffer.get(1) else { return Ok(None) };
        (2, u64::from(len))
    } else {
        let Some(len) = buffer.get(1..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        (9, u64::from_be_bytes(*len))
    };
    let Some(len) = usize::try_from(len).ok().filter(|&len| len <= max) else {
        return Err(ZmtpError::TooLong);
    };
    if buffer.len() < head + len {
        return Ok(None);
    }
    buffer.advance(head);
    let body = buffer.split_to(len).freeze();
    Ok(Some(match flags & COMMAND {
        0 => Frame::Part(body, flags & MORE != 0),
        _ => Frame::Command(body),
    }))
}

fn put(out: &mut BytesMut, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(len) => out.put_slice(&[flags, len]),
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(body.len() as u64);
        }
    }
    out.put_slice(body);
}

/// Appends a message of these parts.
pub(super) fn put_message(out: &mut BytesMut, parts: &[&[u8]]) {
    for (i, part) in parts.iter().enumerate() {
        put(out, if i + 1 < parts.len() { MORE } else { 0 }, part);
    }
}

/// Appends a command: its name and what belongs to it.
pub(super) fn put_command(out: &mut BytesMut, name: &str, body: &[u8]) {
    let mut command = Vec::with_capacity(1 + name.len() + body.len());
    command.push(name.len() as u8);
    command.extend_from_slice(name.as_bytes());
    command.extend_from_slice(body);
    put(out, COMMAND, &command);
}

/// Name and rest of a command.
pub(super) fn split_command(command: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = command.split_first()?;
    rest.split_at_checked(usize::from(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_refused() {
        let cases: [(&[u8], ZmtpError); 4] = [
            (&[0, 9], ZmtpError::TooLong),
            (&[LONG, 0, 0, 0, 0, 0, 0, 0, 9], ZmtpError::TooLong),
            (&[LONG, 255, 255, 255, 255, 255, 255, 255, 255], ZmtpError::TooLong),
            (&[8], ZmtpError::NotZmtp),
        ];
        for (bytes, error) in cases {
            assert_eq!(take(&mut bytes.into(), 8), Err(error), "{bytes:?}");
        }
    }

    proptest! {
        /// What is written is read again, however it is cut, and never before it is complete.
        #[test]
        fn round_trip(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = BytesMut::new();
            put_message(&mut bytes, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            put_command(&mut bytes, "PING", b"\0\0context");
            let rest = bytes.split_off(cut.index(bytes.len()));
            let mut read = Vec::new();
            while let Some(frame) = take(&mut bytes, 300).unwrap() {
                read.push(frame);
            }
            bytes.unsplit(rest);
            while let Some(frame) = take(&mut bytes, 300).unwrap() {
                read.push(frame);
            }
            let last = parts.len() - 1;
            let mut sent: Vec<Frame> = parts.into_iter().enumerate()
                .map(|(i, part)| Frame::Part(part.into(), i < last)).collect();
            sent.push(Frame::Command(Bytes::from_static(b"\x04PING\0\0context")));
            prop_assert_eq!(read, sent);
        }
    }
}
