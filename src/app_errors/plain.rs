//! Text without its colours.

/// Which bytes of an output are text, and which belong to an escape sequence of a terminal (ECMA-48, section 5). A new one
/// for each line: a sequence that is never ended hides no more than its own line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Plain {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence, as colours are: up to its final letter.
    Control,
    /// In a string, as titles and links are: up to BEL, or ESC and one more byte.
    Str,
}

// === impl Plain ===

impl Plain {
    /// Takes the next byte, and says whether it is text.
    pub(super) fn is_visible(&mut self, byte: u8) -> bool {
        const ESC: u8 = 0x1b;
        const BEL: u8 = 0x07;
        let was_text = *self == Self::Text;
        *self = match (*self, byte) {
            // Bytes in the middle, as in `ESC ( B`.
            (_, ESC) | (Self::Escape, 0x20..=0x2f) => Self::Escape,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Self::Str,
            (Self::Control, 0x40..=0x7e) | (Self::Str, BEL) | (Self::Escape | Self::Text, _) => Self::Text,
            (state @ (Self::Control | Self::Str), _) => state,
        };
        was_text && byte != ESC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &[u8]) -> String {
        let mut plain = Plain::default();
        text.iter().filter(|byte| plain.is_visible(**byte)).map(|byte| char::from(*byte)).collect()
    }

    #[test]
    fn colours_titles_and_links_are_passed_over() {
        assert_eq!(visible(b"  code: \x1b[32m'ERR'\x1b[39m,"), "  code: 'ERR',");
        assert_eq!(visible(b"\x1b[1;38;5;196mred\x1b[0m"), "red");
        assert_eq!(visible(b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\"), "ab");
        assert_eq!(visible(b"\x1b(Ba\x1b7b"), "ab");
        assert_eq!(visible(b"a\x1b"), "a");
    }
}
