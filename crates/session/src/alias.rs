//! Topic aliases, those of the peer and our own: two tables, both gone with the connection [MQTT-3.3.2-7].

mod received;
mod sent;

pub use self::received::TopicRef;

pub(crate) use self::received::ReceivedAliases;
pub(crate) use self::sent::SentAliases;
