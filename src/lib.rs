//! sidestream: a reverse-proxy sidecar for Server-Sent Events.

pub mod event;
pub mod metrics;
pub mod status;
pub mod template;
