//! What only one of the two sides may say.

use whimbrel_codec::topic::SubscriptionFilter;
use whimbrel_codec::{PacketType, ProtocolVersion, ReasonCode, SubscribeRef};

use crate::{ProtocolError, ServerConfig, UsageError};

/// Whether a client's DISCONNECT may have this code [MQTT-3.14.2-1].
pub(crate) fn client_disconnects_with(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::NORMAL_DISCONNECTION
            | ReasonCode::DisconnectWithWill
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            // In one of the standard's two tables only.
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::TopicNameInvalid
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::AdministrativeAction
            | ReasonCode::PayloadFormatInvalid
            // The answer to a PUBLISH of a QoS the client did not ask for.
            | ReasonCode::QosNotSupported
    )
}

/// Whether a server's DISCONNECT may have this code, taken leniently: 0x00 is listed for clients only.
pub(crate) fn server_disconnects_with(reason: ReasonCode) -> bool {
    reason.allowed_in(PacketType::Disconnect) && reason != ReasonCode::DisconnectWithWill
}

/// Checks the code of our own DISCONNECT as a server, strictly.
pub(crate) fn check_server_disconnect(reason: ReasonCode) -> Result<(), UsageError> {
    let sent = server_disconnects_with(reason)
        && reason.is_error()
        && reason != ReasonCode::BadAuthenticationMethod;
    check_disconnect(sent, reason)
}

/// Checks the code of our own DISCONNECT as a client, strictly.
pub(crate) fn check_client_disconnect(reason: ReasonCode) -> Result<(), UsageError> {
    let sent = client_disconnects_with(reason) && reason != ReasonCode::BadAuthenticationMethod;
    check_disconnect(sent, reason)
}

/// Checks the filters of a SUBSCRIBE as far as the connection depends on them.
pub(crate) fn check_filters(
    subscribe: &SubscribeRef<'_>,
    version: ProtocolVersion,
    config: &ServerConfig,
) -> Result<(), ProtocolError> {
    if version.is_v5() {
        check_available(subscribe, config)?;
    }
    for entry in subscribe.filters() {
        if version.is_v5() {
            // [MQTT-3.8.3-4]
            if entry.options.no_local && entry.filter.starts_with("$share/") {
                return Err(ProtocolError::NoLocalOnShared);
            }
        } else if SubscriptionFilter::parse(entry.filter).is_err() {
            // Version 5 answers in SUBACK; before it there is nothing to answer (E2).
            return Err(ProtocolError::TopicFilterInvalid);
        }
    }
    Ok(())
}

/// What CONNACK has said is not to be had ends the connection of who asks for it (E5) [U5-042].
fn check_available(
    subscribe: &SubscribeRef<'_>,
    config: &ServerConfig,
) -> Result<(), ProtocolError> {
    if !config.subscription_id_available && subscribe.subscription_id().is_some() {
        return Err(ProtocolError::SubscriptionIdNotSupported);
    }
    if config.wildcard_subscription_available && config.shared_subscription_available {
        return Ok(());
    }
    for entry in subscribe.filters() {
        // An invalid filter is for SUBACK to refuse.
        let Ok(filter) = SubscriptionFilter::parse(entry.filter) else {
            continue;
        };
        let is_shared = matches!(filter, SubscriptionFilter::Shared { .. });
        if is_shared && !config.shared_subscription_available {
            return Err(ProtocolError::SharedNotSupported);
        }
        if filter.filter().has_wildcard() && !config.wildcard_subscription_available {
            return Err(ProtocolError::WildcardNotSupported);
        }
    }
    Ok(())
}

fn check_disconnect(is_sent: bool, reason: ReasonCode) -> Result<(), UsageError> {
    if is_sent {
        return Ok(());
    }
    Err(UsageError::ReasonNotAllowed {
        reason,
        packet_type: PacketType::Disconnect,
    })
}
