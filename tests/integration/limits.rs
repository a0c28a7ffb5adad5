//! What is bounded, and what happens over each bound: a policy, a number that moves, and nobody else harmed. The limits
//! that belong to one subject alone are tested there: `--max-connections`, `--max-connections-per-ip`, `--max-topics` and
//! connects without end in [`crate::life`], bodies of polls in [`crate::poll`], slow readers of events in
//! [`crate::subscribe`], of state in [`crate::poll`].

mod app;
mod files;
mod heads;
mod streams;
