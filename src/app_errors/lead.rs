//! What a line begins with: how far it is indented, and whether it is source that somebody quotes, or a property of an
//! object.

/// What the first bytes of a line are, taken one by one; the line itself is not kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lead {
    indent: u8,
    kind: Kind,
}

/// What they are so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Blanks,
    /// The mark before the line of a code frame that is meant, and blanks.
    Mark,
    /// The number of a line; and blanks behind it.
    Number,
    Numbered,
    /// The rest is quoted source: `> 24 |   controller.enqueue(message);`.
    Source,
    /// The name of a property as `util.inspect` prints it, or in these quotes, which are closed then.
    Name,
    Quoted(u8),
    Named,
    /// What follows it, and blanks.
    Colon,
    /// The rest is what the property says: `"message": "`, `message: '`.
    Property,
    /// None of these.
    Other,
}

// === impl Lead ===

impl Lead {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.is_known() {
                return;
            }
            self.kind = self.kind.after(byte);
            if self.kind == Kind::Blanks {
                self.indent = self.indent.saturating_add(1);
            }
        }
    }

    /// The blanks before all else; a tab is one.
    pub(super) fn indent(&self) -> u8 {
        self.indent
    }

    pub(super) fn is_source(&self) -> bool {
        self.kind == Kind::Source
    }

    pub(super) fn is_property(&self) -> bool {
        self.kind == Kind::Property
    }

    /// What follows makes no difference.
    fn is_known(&self) -> bool {
        matches!(self.kind, Kind::Source | Kind::Property | Kind::Other)
    }
}

// === impl Kind ===

impl Kind {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Blanks, b' ' | b'\t') => Self::Blanks,
            (Self::Blanks, b'>') | (Self::Mark, b' ') => Self::Mark,
            (Self::Blanks | Self::Mark | Self::Number, b'0'..=b'9') => Self::Number,
            // The blank tells it from the names of processes: `0|app  | …`.
            (Self::Number | Self::Numbered, b' ') => Self::Numbered,
            (Self::Numbered, b'|') => Self::Source,
            (Self::Blanks, b'\'' | b'"') => Self::Quoted(byte),
            (Self::Blanks | Self::Name, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$') | (Self::Name, b'0'..=b'9') => {
                Self::Name
            }
            (Self::Quoted(quote), _) if quote == byte => Self::Named,
            (Self::Quoted(quote), _) => Self::Quoted(quote),
            (Self::Name | Self::Named, b':') | (Self::Colon, b' ') => Self::Colon,
            (Self::Colon, b'\'' | b'"' | b'`') => Self::Property,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(text: &str) -> Lead {
        let mut lead = Lead::default();
        for byte in text.as_bytes() {
            lead.push(&[*byte]);
        }
        let mut whole = Lead::default();
        whole.push(text.as_bytes());
        assert_eq!((lead.indent, lead.kind), (whole.indent, whole.kind), "{text}");
        lead
    }

    #[test]
    fn code_frames_are_told_from_numbers_and_names_of_processes() {
        for source in ["> 24 |   x", "  22 |  x", "23 | x", ">  7 | x", "   9 |", "  > 100 | x"] {
            assert!(lead(source).is_source(), "{source}");
        }
        for other in [
            "0|app  | x",
            "12:00:01 web.1  | x",
            "app-1  | x",
            "[0] x",
            "> next dev",
            "     |   ^",
            "24",
            "| x",
            "3 errors",
        ] {
            assert!(!lead(other).is_source(), "{other}");
        }
    }

    #[test]
    fn properties_are_told_from_words() {
        for property in [r#"  "message": "x"#, "  message: 'x", "    'the words': 'x", "err_2: `x", r#"  "msg":"x"#] {
            assert!(lead(property).is_property(), "{property}");
        }
        for other in
            ["  enqueue: x", "  the words: 'x", "  [cause]: 'x", "    at x", "  'x',", "  { message: 'x", "  8: 'x"]
        {
            assert!(!lead(other).is_property(), "{other}");
        }
    }

    #[test]
    fn an_indentation_is_as_wide_as_it_has_blanks() {
        for (text, indent) in [("x", 0), ("", 0), ("  ", 2), ("\tx", 1), (" \t x  y", 3)] {
            assert_eq!(lead(text).indent(), indent, "{text:?}");
        }
        assert_eq!(lead(&" ".repeat(1000)).indent(), u8::MAX);
    }
}
