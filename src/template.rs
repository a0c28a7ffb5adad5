//! The shape that a front end already expects, as a JSON document with places for values of the app's answer.
//!
//! The string `"$"` stands for the whole answer and `"$/pointer"` for the value at a JSON pointer (RFC 6901); a string
//! that begins with `$$` stands for itself with one `$` less. Keys are literal. A template is compiled once per route into
//! pieces of finished JSON with pointers in between, so that filling it in only joins them.

use serde_json::Value;
use thiserror::Error;

use crate::status::is_json_pointer;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// Why a text is no template.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// There is nothing.
    #[error("it is empty; write JSON, as in {{\"type\": \"$/status\"}}")]
    Empty,
    /// The text is not JSON.
    #[error("it is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// What follows a `$/` breaks the rules of a JSON pointer.
    #[error("{0:?} is no JSON pointer: after `~` comes `0` (for `~`) or `1` (for `/`)")]
    Pointer(String),
    /// A `$` with something else behind it.
    #[error(
        "{0:?} is no placeholder: write \"$\" for the whole answer, \"$/name\" for a value in it, \
         or \"${text}\" for the text itself", text = .0
    )]
    Placeholder(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Compact JSON.
    Text(String),
    /// A valid JSON pointer; the empty one is the whole answer.
    Pointer(String),
}

// === impl Template ===

impl Template {
    /// Compiles the text of a template.
    ///
    /// # Errors
    /// When the text is not JSON, or a string in it begins with a `$` that means nothing.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut template = Self { pieces: Vec::new() };
        // Some editors put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        template.compile(&serde_json::from_str(text)?)?;
        Ok(template)
    }

    /// The template with the values of `answer` in their places, as JSON on one line. A pointer to nothing becomes
    /// `null`. Numbers keep every digit they were written with.
    pub fn fill(&self, answer: &Value) -> String {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                // No JSON text has a CR or LF inside of a token, and this printer puts none in between.
                Piece::Pointer(pointer) => {
                    filled.push_str(&answer.pointer(pointer).unwrap_or(&Value::Null).to_string())
                }
            }
        }
        filled
    }

    fn compile(&mut self, node: &Value) -> Result<(), TemplateError> {
        match node {
            Value::String(text) => self.compile_string(text)?,
            Value::Array(items) => {
                self.text("[");
                for (n, item) in items.iter().enumerate() {
                    self.text(if n == 0 { "" } else { "," });
                    self.compile(item)?;
                }
                self.text("]");
            }
            Value::Object(members) => {
                self.text("{");
                for (n, (key, member)) in members.iter().enumerate() {
                    self.text(if n == 0 { "" } else { "," });
                    self.text(&Value::from(key.as_str()).to_string());
                    self.text(":");
                    self.compile(member)?;
                }
                self.text("}");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.text(&node.to_string()),
        }
        Ok(())
    }

    fn compile_string(&mut self, text: &str) -> Result<(), TemplateError> {
        let literal = match text.strip_prefix('$') {
            None => text,
            Some(escaped) if escaped.starts_with('$') => escaped,
            Some(pointer) if is_json_pointer(pointer) => {
                self.pieces.push(Piece::Pointer(pointer.to_owned()));
                return Ok(());
            }
            Some(pointer) if pointer.starts_with('/') => return Err(TemplateError::Pointer(pointer.to_owned())),
            Some(_) => return Err(TemplateError::Placeholder(text.to_owned())),
        };
        self.text(&Value::from(literal).to_string());
        Ok(())
    }

    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }
}

/// The same by the plain way: replace in the tree, then print.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn replaced(template: &Value, answer: &Value) -> Value {
    match template {
        Value::String(text) => match text.strip_prefix('$') {
            None => template.clone(),
            Some(rest) if rest.starts_with('$') => Value::from(rest),
            Some(pointer) => answer.pointer(pointer).cloned().unwrap_or_default(),
        },
        Value::Array(items) => items.iter().map(|item| replaced(item, answer)).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), replaced(member, answer))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::status::tests::any_json;

    fn fill(template: &str, answer: &str) -> String {
        Template::parse(template).unwrap().fill(&serde_json::from_str(answer).unwrap())
    }

    #[test]
    fn values_of_the_answer_take_their_places() {
        let template = r#"{ "type": "$/status", "videoId": "$/id", "videoUrl": "$/videoUrl", "v": 1 }"#;
        let answer = r#"{ "id": "a1", "status": "completed", "videoUrl": null }"#;
        assert_eq!(fill(template, answer), r#"{"type":"completed","videoId":"a1","videoUrl":null,"v":1}"#);
    }

    #[test]
    fn a_dollar_alone_is_the_whole_answer() {
        assert_eq!(fill(r#""$""#, "{\n \"b\": [1,\r\n 2], \"a\": {} }"), r#"{"b":[1,2],"a":{}}"#);
        assert_eq!(fill(r#"{"data":["$"]}"#, "7"), r#"{"data":[7]}"#);
    }

    #[test]
    fn pointers_reach_into_arrays_and_escaped_keys() {
        let answer = r#"{ "a": [ { "b": 1 }, { "b": 2 } ], "x/y": 3, "x~y": 4, "": 5 }"#;
        assert_eq!(fill(r#"["$/a/1/b","$/x~1y","$/x~0y","$/"]"#, answer), "[2,3,4,5]");
    }

    #[test]
    fn a_pointer_to_nothing_is_null() {
        assert_eq!(fill(r#"["$/a","$/a/b","$/0","$/s/0"]"#, r#"{"s":"text"}"#), "[null,null,null,null]");
    }

    #[test]
    fn two_dollars_are_one_and_keys_are_literal() {
        assert_eq!(
            fill(r#"{"$/id":"$$","$":"$$/id","$$":"$$$x","p":"5 $"}"#, r#"{"id":1}"#),
            r#"{"$/id":"$","$":"$/id","$$":"$$x","p":"5 $"}"#
        );
    }

    #[test]
    fn numbers_keep_every_digit() {
        let numbers = "[1.0,12345678901234567890123,0.1000,-0,1e-400,1e+400]";
        assert_eq!(fill(r#""$""#, numbers), numbers);
        assert_eq!(fill(numbers, "null"), numbers);
        // The parser spells out the sign of an exponent; the number is the same.
        assert_eq!(fill(r#""$""#, "1E400"), "1e+400");
    }

    #[test]
    fn text_is_escaped_as_json_and_nothing_else() {
        let answer = r#"{"s":"\r\n\t\"\\\u0000\u2028ä</"}"#;
        assert_eq!(fill(r#""$/s""#, answer), "\"\\r\\n\\t\\\"\\\\\\u0000\u{2028}ä</\"");
    }

    // serde_json passes numbers around as an object with this key, so an app's object with it becomes a number. Nothing
    // but a number may get in that way: its text is printed as it is.
    #[test]
    fn the_parsers_own_name_for_numbers_smuggles_nothing() {
        let parse =
            |text: &str| serde_json::from_str::<Value>(&format!(r#"{{"$serde_json::private::Number":"{text}"}}"#));
        let whole = Template::parse(r#""$""#).unwrap();
        assert_eq!(whole.fill(&parse("12").unwrap()), "12");
        for text in [r"1\n2", r"1\r", r"\n1", "x", "", "1,2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_dollar_that_means_nothing_is_refused() {
        for text in ["$status", "$ ", "$.status", "${id}"] {
            let error = Template::parse(&json!({ "a": [text] }).to_string()).unwrap_err();
            assert!(matches!(&error, TemplateError::Placeholder(found) if found == text), "{text}: {error}");
        }
        let error = Template::parse(r#""$id""#).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""$id" is no placeholder: write "$" for the whole answer, "$/name" for a value in it, or "$$id" for the text itself"#
        );
    }

    #[test]
    fn a_malformed_pointer_is_refused() {
        for text in ["$/a~", "$/a~2b", "$/~~0", "$/~x/a"] {
            let error = Template::parse(&json!(text).to_string()).unwrap_err();
            assert!(matches!(&error, TemplateError::Pointer(found) if found == &text[1..]), "{text}: {error}");
        }
    }

    #[test]
    fn a_byte_order_mark_in_front_is_no_part_of_it() {
        assert_eq!(fill("\u{feff}{\"s\":\"$/s\"}", r#"{"s":1}"#), r#"{"s":1}"#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["{", "$", "{'a':1}", "[1] 2"] {
            assert!(matches!(Template::parse(text), Err(TemplateError::Json(_))), "{text}");
        }
        for text in ["", " \n"] {
            assert!(matches!(Template::parse(text), Err(TemplateError::Empty)), "{text:?}");
        }
    }

    #[test]
    fn the_place_where_it_stops_being_json_is_said() {
        let error = Template::parse("{\n  \"a\": 1,\n}").unwrap_err().to_string();
        assert_eq!(error, "it is not JSON: trailing comma at line 3 column 1");
    }

    proptest! {
        #[test]
        fn filling_is_replacing_in_the_tree(template in any_json(), answer in any_json()) {
            if let Ok(compiled) = Template::parse(&template.to_string()) {
                let filled = compiled.fill(&answer);
                prop_assert!(!filled.contains(['\r', '\n']));
                prop_assert_eq!(filled, replaced(&template, &answer).to_string());
            }
        }

        #[test]
        fn a_template_without_a_dollar_stands_for_itself(template in any_json(), answer in any_json()) {
            let text = template.to_string();
            prop_assume!(!text.contains('$'));
            prop_assert_eq!(Template::parse(&text).unwrap().fill(&answer), text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in r#"[\[\]{}",:$/~01a\\ \n]{0,40}"#) {
            let _ = Template::parse(&text);
        }
    }
}
