//! Poll routes: a JSON status becomes a live stream.

mod ending;
mod first_contact;
mod pace;
mod targets;
mod trouble;
