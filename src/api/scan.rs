//! Finding the way through JSON text without reading it.

/// The place of the quote that ends the string whose first quote is at `start`; the end of the
/// text where it does not end.
pub(super) fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(rest) = text.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(i) if rest[i] == b'"' => return at + i,
            // The escaped byte is no quote that ends the string.
            Some(i) => at += i + 2,
            None => break,
        }
    }
    text.len()
}
