//! Events and their frames.

/// What a heartbeat looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HeartbeatForm {
    /// A colon and one newline.
    Comment,
    /// A colon, a newline and a blank line.
    CommentBlock,
    /// `event: ping` with data.
    Event,
}
