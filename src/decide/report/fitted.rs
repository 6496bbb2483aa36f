//! Texts that others have written, of a length that fits.

/// Stands for what was cut off.
const MARK: &str = " ...";

/// The text, in at most this many bytes: if it is longer, its beginning up to the border of a character, and a mark.
pub fn fitted(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = text.floor_char_boundary(bytes.saturating_sub(MARK.len()));
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
