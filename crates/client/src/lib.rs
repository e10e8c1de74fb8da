//! An async MQTT client for versions 3.1.1 and 5.0.
#![forbid(unsafe_code)]

pub use whimbrel_session::codec;

#[cfg(feature = "outbox")]
pub mod outbox;
