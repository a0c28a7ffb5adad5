//! Clients and servers that nobody here wrote, unmodified: browsers' and libraries' EventSources in front of the program,
//! libraries' event streams behind it. What they do is written down in `docs/clients.md`, and checked against it.
//!
//! The drivers are in `tests/clients`; `tests/clients/install` installs what they need. Without it these tests fail.

mod browser;
mod curl;
mod cutter;
mod driver;
mod matrix;
mod rows;
mod upstreams;
mod world;

/// The deadline of waits for other people's programs: browsers and interpreters take their time to start on a busy
/// machine, and some of these clients wait for seconds before they come back.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
