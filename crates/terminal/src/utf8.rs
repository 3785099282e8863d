//! Decodes UTF-8 that arrives in pieces, for clients that are sent text.

/// Keeps the beginning of a character until the rest of it comes. What is no UTF-8 becomes U+FFFD, as in
/// browsers.
#[derive(Debug, Default)]
pub(crate) struct Utf8Decoder {
    /// At most three bytes: the longest beginning of a character that is not a whole one.
    unfinished: Vec<u8>,
}

impl Utf8Decoder {
    /// The text of the bytes seen so far that was not returned before, up to the last whole character.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> String {
        self.unfinished.extend_from_slice(bytes);
        let whole = self.unfinished.len() - unfinished_length(&self.unfinished);
        let text = String::from_utf8_lossy(&self.unfinished[..whole]).into_owned();
        self.unfinished.drain(..whole);
        text
    }
}

/// How many bytes at the end begin a character that more bytes could finish.
fn unfinished_length(bytes: &[u8]) -> usize {
    let is_beginning = |tail: &[u8]| {
        std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=bytes.len().min(3)).rev().find(|length| is_beginning(&bytes[bytes.len() - length..])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_survives_a_cut_at_every_byte() {
        let text = "日本語 🚀 é ok";
        for cut in 0..=text.len() {
            let mut decoder = Utf8Decoder::default();
            let (left, right) = text.as_bytes().split_at(cut);
            assert_eq!(decoder.decode(left) + &decoder.decode(right), text, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hold_up_what_follows() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.decode(b"\xff\xfe ok \xc3"), "\u{fffd}\u{fffd} ok ");
        assert_eq!(decoder.decode(b"ok"), "\u{fffd}ok");
    }

    proptest! {
        #[test]
        fn pieces_decode_to_what_the_whole_decodes_to(
            bytes: Vec<u8>,
            cuts in proptest::collection::vec(1usize..9, 0..40),
        ) {
            let mut decoder = Utf8Decoder::default();
            let mut rest = &bytes[..];
            let mut text = String::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                text += &decoder.decode(piece);
                rest = after;
            }
            text += &decoder.decode(rest);
            text += &String::from_utf8_lossy(&decoder.unfinished);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
