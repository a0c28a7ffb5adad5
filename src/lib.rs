pub mod metrics;

pub mod event;
pub mod sse_decode;
pub mod status;

pub mod backoff;
pub mod template;
