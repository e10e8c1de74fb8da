//! Why a packet has no form on the wire.

use thiserror::Error;

use crate::{PacketType, ProtocolVersion, ReasonCode};

/// Why a packet cannot be encoded: our caller's mistake. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The remaining length would exceed 268,435,455 bytes.
    #[error("packet is longer than the protocol can say")]
    PacketTooLong,
    /// A string or a binary field is longer than 65,535 bytes.
    #[error("field is longer than 65,535 bytes")]
    FieldTooLong,
    /// A string holds U+0000 [MQTT-1.5.4-2].
    #[error("string holds U+0000")]
    StringNull,
    /// The packet type does not exist in this version.
    #[error("no {packet_type} in version {version}")]
    NotInVersion {
        /// The packet's type.
        packet_type: PacketType,
        /// The version asked for.
        version: ProtocolVersion,
    },
    /// The reason code is not one of this packet's.
    #[error("reason code {reason} is not one of a {packet_type}")]
    ReasonNotAllowed {
        /// The packet's type.
        packet_type: PacketType,
        /// The reason code.
        reason: ReasonCode,
    },
    /// The PUBLISH has a topic alias in place of its topic, which only 5.0 has.
    #[error("topic is left to an alias, which the version does not have")]
    TopicMissing,
    /// The SUBSCRIBE or UNSUBSCRIBE has no filter [MQTT-3.8.3-2] [MQTT-3.10.3-2].
    #[error("no topic filter")]
    FiltersMissing,
    /// A topic filter is empty [MQTT-4.7.3-1].
    #[error("topic filter is empty")]
    FilterEmpty,
    /// The SUBACK or UNSUBACK has no reason code.
    #[error("no reason code for any filter")]
    ReasonCodesMissing,
    /// The 3.1.1 CONNECT has a password, but no user name [MQTT-3.1.2-22].
    #[error("password without a user name")]
    PasswordWithoutUserName,
    /// The client identifier is empty; 3.1 never allows that, 3.1.1 with a clean session only [MQTT-3.1.3-7].
    #[error("client identifier is empty")]
    ClientIdEmpty,
}
