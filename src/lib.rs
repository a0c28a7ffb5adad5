pub mod forward;
pub mod metrics;
pub mod upstream;
pub mod wire;
