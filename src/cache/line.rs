//! The line of a reply, written on the stack: an answer costs no allocation.

/// The longest is a meta hit with all flags: `VA`, size, `s t c f l h` (under 100), `O` and its 32 bytes,
/// `k` and a key of 250 in base64 (336, and ` b`), `Z X W`: below 512.
const LINE_BYTES_MAX: usize = 640;

/// A reply line in the making, without its line end.
pub(super) struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    /// Invariant: `len <= LINE_BYTES_MAX`.
    len: usize,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LINE_BYTES_MAX], len: 0 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Adds bytes. What does not fit is left out: the parser lets no request through that could come there.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= LINE_BYTES_MAX - self.len, "a reply line is longer than any can be");
        let count = bytes.len().min(LINE_BYTES_MAX - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&bytes[..count]);
        self.len += count;
    }

    pub(super) fn put_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Starts over with this.
    pub(super) fn set(&mut self, bytes: &[u8]) {
        self.len = 0;
        self.put(bytes);
    }

    /// ` c12`: a flag with its number.
    pub(super) fn put_flag(&mut self, letter: u8, number: u64) {
        self.put(&[b' ', letter]);
        self.put_number(number);
    }

    /// ` kfoo`, or ` kZm9v b` for a key that came in base64 (encoded anew, as memcached does).
    pub(super) fn put_key(&mut self, key: &[u8], base64: bool) {
        self.put(b" k");
        self.put_key_text(key, base64);
        if base64 {
            self.put(b" b");
        }
    }

    pub(super) fn put_key_text(&mut self, key: &[u8], base64: bool) {
        if !base64 {
            return self.put(key);
        }
        for group in key.chunks(3) {
            let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            let mut text = [b'='; 4];
            for (index, letter) in text.iter_mut().enumerate().take(group.len() + 1) {
                *letter = BASE64[(bits >> (18 - 6 * index) & 63) as usize];
            }
            self.put(&text);
        }
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_base64() {
        for (key, text) in
            [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{ff}?>", "w78/Pg==")]
        {
            let mut line = Line::new();
            line.put_key_text(key.as_bytes(), true);
            assert_eq!(line.as_slice(), text.as_bytes());
        }
    }

    #[test]
    fn the_longest_line_fits() {
        let mut line = Line::new();
        line.put(b"VA 4294967295 Z X W");
        for letter in *b"sftclh" {
            line.put_flag(letter, u64::MAX);
        }
        line.put(&[b'O'; 33]);
        line.put_key(&[255; 250], true);
        assert!(line.as_slice().ends_with(b"/w== b"));
    }
}
