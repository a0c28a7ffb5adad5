//! The shape that a front end expects, filled in from the app's answer.

use serde_json::Value;

/// A JSON document in which strings that begin with `$` stand for values of the answer.
#[derive(Clone, Debug)]
pub struct Template {
    _shape: Value,
}

/// Why a text is not a template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A pointer that is none.
    #[error("'{0}' is not a JSON pointer; write \"$\", or \"$/name\"")]
    Pointer(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When `text` is not JSON, or a pointer in it is malformed.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let shape: Value = serde_json::from_str(text)?;
        check(&shape)?;
        Ok(Self { _shape: shape })
    }
}

fn check(value: &Value) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => match text.strip_prefix('$') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(['/', '$']) => {
                Err(TemplateError::Pointer(text.clone()))
            }
            _ => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(fields) => fields.values().try_for_each(check),
        _ => Ok(()),
    }
}
