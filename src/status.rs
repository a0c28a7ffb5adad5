//! The status of a job in what the app says.

/// How the status is found, and what ends the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusRule {
    /// The JSON pointer to the status; `None` looks at the usual places.
    pub pointer: Option<String>,
    /// The values that end the job, as written; `None` takes the usual words.
    pub done: Option<Vec<String>>,
}
