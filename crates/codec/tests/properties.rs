//! Every property in every packet: allowed or not, once or more often, and its bad values.

use whimbrel_codec::{
    DecodeError, DecodeErrorKind, Limits, PacketType, PropertyId, PropertyPlace, ProtocolVersion,
    ReasonCode, decode_ref,
};

/// A place for properties, and which of them the standard allows there (v5 section 2.2.2.2).
struct Place {
    place: PropertyPlace,
    allowed: &'static [u8],
}

const PLACES: [Place; 16] = [
    Place {
        place: PropertyPlace::Packet(PacketType::Connect),
        allowed: &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
    },
    Place {
        place: PropertyPlace::Will,
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::ConnAck),
        allowed: &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
            0x28, 0x29, 0x2A,
        ],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::Publish),
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::PubAck),
        allowed: &[0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::PubRec),
        allowed: &[0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::PubRel),
        allowed: &[0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::PubComp),
        allowed: &[0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::Subscribe),
        allowed: &[0x0B, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::SubAck),
        allowed: &[0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::Unsubscribe),
        allowed: &[0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::UnsubAck),
        allowed: &[0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::PingReq),
        allowed: &[],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::PingResp),
        allowed: &[],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::Disconnect),
        allowed: &[0x11, 0x1C, 0x1F, 0x26],
    },
    Place {
        place: PropertyPlace::Packet(PacketType::Auth),
        allowed: &[0x15, 0x16, 0x1F, 0x26],
    },
];

// U5-011
#[test]
fn a_property_is_accepted_where_the_standard_lists_it_and_nowhere_else() {
    for Place { place, allowed } in &PLACES {
        for id in PropertyId::ALL {
            let is_allowed = allowed.contains(&id.as_u8());
            assert_eq!(id.allowed_in(*place), is_allowed, "{id} in {place:?}");
            let Some(result) = decode(*place, &with_company(*place, id, &valid(id))) else {
                assert!(!is_allowed);
                continue;
            };
            let expected = if is_allowed {
                Ok(())
            } else {
                Err(DecodeErrorKind::PropertyNotAllowed { id })
            };
            assert_eq!(
                result.map_err(|error| error.kind()),
                expected,
                "{id} in {place:?}"
            );
        }
    }
}

#[test]
fn a_property_that_is_there_twice_is_a_protocol_error_unless_it_may_repeat() {
    // [U5-019] [U5-020] [U5-021] [U5-023] [U5-024] [U5-025] [U5-027] [U5-028] [U5-029] [U5-036]
    // [U5-045] [U5-056] [U5-057]
    for Place { place, allowed } in &PLACES {
        for id in allowed.iter().map(|id| PropertyId::from_u8(*id).unwrap()) {
            let is_publish = *place == PropertyPlace::Packet(PacketType::Publish);
            let may_repeat =
                id == PropertyId::UserProperty || (id == PropertyId::SubscriptionId && is_publish);
            assert_eq!(id.repeatable_in(*place), may_repeat, "{id} in {place:?}");
            let twice = [valid(id), valid(id)].concat();
            let result = decode(*place, &with_company(*place, id, &twice)).unwrap();
            if may_repeat {
                assert_eq!(result, Ok(()), "{id} in {place:?}");
            } else {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), DecodeErrorKind::PropertyRepeated { id });
                assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
            }
        }
    }
}

#[test]
fn bad_values_are_refused_wherever_the_property_is_allowed() {
    // [5:MQTT-3.3.2-8] [5:MQTT-3.3.2-14] [U5-011] [U5-020] [U5-021] [U5-024] [U5-025] [U5-036]
    // [U5-047] [U5-057]
    for Place { place, allowed } in &PLACES {
        for id in allowed.iter().map(|id| PropertyId::from_u8(*id).unwrap()) {
            for (value, kind) in bad_values(id) {
                let property = [&[id.as_u8()], value].concat();
                let error = decode(*place, &with_company(*place, id, &property)).unwrap();
                let error = error.unwrap_err();
                assert_eq!(error.kind(), kind, "{id} in {place:?}: {value:?}");
            }
        }
    }
}

// U5-010
#[test]
fn a_property_that_is_cut_is_malformed() {
    for Place { place, allowed } in &PLACES {
        for id in allowed.iter().map(|id| PropertyId::from_u8(*id).unwrap()) {
            let whole = valid(id);
            for end in 1..whole.len() {
                let error = decode(*place, &whole[..end]).unwrap().unwrap_err();
                assert_eq!(
                    error.kind(),
                    DecodeErrorKind::Truncated,
                    "{id}: {end} bytes"
                );
                assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
            }
        }
    }
}

// U5-011
#[test]
fn unknown_identifiers_are_malformed_in_every_packet() {
    for byte in 0..=255 {
        if PropertyId::from_u8(byte).is_some() {
            continue;
        }
        for Place { place, .. } in &PLACES {
            if let Some(result) = decode(*place, &[byte, 0, 0, 0, 0]) {
                let kind = result.unwrap_err().kind();
                assert_eq!(kind, DecodeErrorKind::PropertyUnknown { id: byte });
            }
        }
    }
}

#[test]
fn the_limits_of_a_section_hold_in_every_packet() {
    let user_property = valid(PropertyId::UserProperty);
    let mut limits = Limits::DEFAULT;
    limits.user_properties_max = 3;
    for Place { place, allowed } in &PLACES {
        if !allowed.contains(&0x26) {
            continue;
        }
        let mut properties = user_property.repeat(3);
        if *place == PropertyPlace::Packet(PacketType::Auth) {
            properties.extend(valid(PropertyId::AuthenticationMethod));
        }
        let mut exact = limits;
        exact.property_bytes_max = u32::try_from(properties.len()).unwrap();
        let decode = |properties: &[u8], limits: &Limits| {
            let packet = packet(*place, properties).unwrap();
            let result = decode_ref(&packet, ProtocolVersion::V5, limits);
            result
                .map(drop)
                .map_err(|error| (error.kind(), error.reason_code()))
        };
        assert_eq!(decode(&properties, &exact), Ok(()), "{place:?}");
        exact.property_bytes_max -= 1;
        let error = (
            DecodeErrorKind::TooManyPropertyBytes,
            ReasonCode::QuotaExceeded,
        );
        assert_eq!(decode(&properties, &exact), Err(error), "{place:?}");
        properties.extend(&user_property);
        let error = (
            DecodeErrorKind::TooManyUserProperties,
            ReasonCode::QuotaExceeded,
        );
        assert_eq!(decode(&properties, &limits), Err(error), "{place:?}");
    }
}

/// `property` with what the packet needs besides it: AUTH its method, and authentication data its method too.
fn with_company(place: PropertyPlace, id: PropertyId, property: &[u8]) -> Vec<u8> {
    let is_auth = place == PropertyPlace::Packet(PacketType::Auth);
    let needs_method = is_auth || id == PropertyId::AuthenticationData;
    let method_allowed = PropertyId::AuthenticationMethod.allowed_in(place);
    let mut properties = property.to_vec();
    if needs_method && method_allowed && id != PropertyId::AuthenticationMethod {
        properties.extend(valid(PropertyId::AuthenticationMethod));
    }
    properties
}

/// The property `id` with a valid value.
fn valid(id: PropertyId) -> Vec<u8> {
    let value: &[u8] = match id.as_u8() {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => &[1],
        0x13 | 0x21 | 0x22 | 0x23 => &[0, 1],
        0x02 | 0x11 | 0x18 | 0x27 => &[0, 0, 0, 1],
        0x0B => &[0xFF, 0x7F],
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => &[0, 2, b'a', b'b'],
        0x26 => &[0, 1, b'k', 0, 1, b'v'],
        other => panic!("no property {other:#x}"),
    };
    [&[id.as_u8()], value].concat()
}

/// Values that the property must not have, and the errors they give.
fn bad_values(id: PropertyId) -> Vec<(&'static [u8], DecodeErrorKind)> {
    let invalid = DecodeErrorKind::PropertyValueInvalid { id };
    let not_utf8: (&[u8], _) = (&[0, 1, 0xFF], DecodeErrorKind::StringNotUtf8);
    let null: (&[u8], _) = (&[0, 1, 0], DecodeErrorKind::StringNull);
    match id.as_u8() {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
            vec![(&[2], invalid), (&[0xFF], invalid)]
        }
        0x21 => vec![(&[0, 0], invalid)],
        0x23 => vec![(&[0, 0], DecodeErrorKind::TopicAliasZero)],
        0x27 => vec![(&[0, 0, 0, 0], invalid)],
        0x0B => vec![
            (&[0], invalid),
            (&[0x80, 0], DecodeErrorKind::VariableIntegerNotMinimal),
            (
                &[0x80, 0x80, 0x80, 0x80],
                DecodeErrorKind::VariableIntegerTooLong,
            ),
        ],
        0x08 => vec![
            not_utf8,
            null,
            (&[0, 0], invalid),
            (&[0, 1, b'+'], invalid),
            (&[0, 3, b'a', b'/', b'#'], invalid),
        ],
        0x03 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => vec![not_utf8, null],
        0x26 => vec![
            (&[0, 1, 0xFF, 0, 0], DecodeErrorKind::StringNotUtf8),
            (&[0, 0, 0, 1, 0xFF], DecodeErrorKind::StringNotUtf8),
            (&[0, 1, 0, 0, 0], DecodeErrorKind::StringNull),
            (&[0, 0, 0, 1, 0], DecodeErrorKind::StringNull),
        ],
        // Every number and every sequence of bytes is valid.
        0x02 | 0x09 | 0x11 | 0x13 | 0x16 | 0x18 | 0x22 => vec![],
        other => panic!("no property {other:#x}"),
    }
}

/// Decodes an otherwise valid packet with these properties; `None` if such packets have none.
fn decode(place: PropertyPlace, properties: &[u8]) -> Option<Result<(), DecodeError>> {
    let packet = packet(place, properties)?;
    let decoded = decode_ref(&packet, ProtocolVersion::V5, &Limits::DEFAULT);
    Some(decoded.map(|decoded| assert!(decoded.is_some(), "incomplete")))
}

fn packet(place: PropertyPlace, properties: &[u8]) -> Option<Vec<u8>> {
    let length = [u8::try_from(properties.len()).unwrap()];
    let section = [&length, properties].concat();
    let connect = |flags| [b"\0\x04MQTT\x05", &[flags][..], b"\0\0"].concat();
    let packet_type = match place {
        PropertyPlace::Will => PacketType::Connect,
        PropertyPlace::Packet(packet_type) => packet_type,
    };
    let body = match place {
        PropertyPlace::Will => [&connect(0x06)[..], b"\0\0\0", &section, b"\0\x01w\0\0"].concat(),
        PropertyPlace::Packet(PacketType::Connect) => {
            [&connect(0x02)[..], &section, b"\0\0"].concat()
        }
        PropertyPlace::Packet(PacketType::ConnAck) => [b"\0\0", &section[..]].concat(),
        PropertyPlace::Packet(PacketType::Publish) => [b"\0\x01a", &section[..]].concat(),
        PropertyPlace::Packet(
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp,
        ) => [b"\0\x01\0", &section[..]].concat(),
        PropertyPlace::Packet(PacketType::Subscribe) => {
            [b"\0\x01", &section[..], b"\0\x01a\0"].concat()
        }
        PropertyPlace::Packet(PacketType::SubAck | PacketType::UnsubAck) => {
            [b"\0\x01", &section[..], b"\0"].concat()
        }
        PropertyPlace::Packet(PacketType::Unsubscribe) => {
            [b"\0\x01", &section[..], b"\0\x01a"].concat()
        }
        PropertyPlace::Packet(PacketType::PingReq | PacketType::PingResp) => return None,
        PropertyPlace::Packet(PacketType::Disconnect | PacketType::Auth) => {
            [b"\0", &section[..]].concat()
        }
    };
    let length = [u8::try_from(body.len()).unwrap()];
    Some([&[packet_type.first_byte()][..], &length, &body].concat())
}
