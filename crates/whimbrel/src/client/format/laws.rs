//! What holds of every format and message.

use proptest::prelude::*;
use serde_json::Value;
use whimbrel_client::codec::topic::TopicName;
use whimbrel_client::codec::{MessageProperties, QoS};

use super::{Arrived, Destination, Format, Layout, Moment, Style};

fn properties() -> impl Strategy<Value = MessageProperties> {
    let text = "[^\0-\u{1f}\u{7f}-\u{9f}]{0,8}";
    let data = prop::collection::vec(any::<u8>(), 0..8);
    (text, data, text, text, any::<bool>()).prop_map(|(kind, data, name, value, is_empty)| {
        let builder = MessageProperties::builder()
            .content_type(&kind)
            .correlation_data(&data)
            .user_property(&name, &value)
            .user_property(&name, &value);
        if is_empty {
            MessageProperties::new()
        } else {
            // What MQTT has no room for, such as noncharacters, is left out.
            builder.build().unwrap_or_default()
        }
    })
}

fn render(
    format: &str,
    layout: Layout,
    destination: Destination,
    message: &Arrived<'_>,
) -> Vec<u8> {
    let style = Style {
        format: Some(format.parse().expect(format)),
        is_verbose: false,
        has_newline: false,
        json: layout,
        destination,
    };
    let mut out = Vec::new();
    // A payload that is no JSON leaves nothing.
    let _ = style.render(message, &Moment::now(), &mut out);
    out
}

fn arrived<'a>(payload: &'a [u8], properties: &'a MessageProperties) -> Arrived<'a> {
    Arrived {
        topic: TopicName::new("a/b").expect("a name").as_str(),
        payload,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        properties: properties.as_properties(),
        subscription_id: Some(1),
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_message_is_valid_json(
        payload in prop::collection::vec(any::<u8>(), 0..64),
        properties in properties(),
        pretty in any::<bool>(),
        terminal in any::<bool>(),
    ) {
        let layout = if pretty { Layout::Pretty } else { Layout::Compact };
        let destination = if terminal { Destination::Terminal } else { Destination::Bytes };
        let out = render("%j", layout, destination, &arrived(&payload, &properties));
        let value: Value = serde_json::from_slice(&out).expect("JSON");
        prop_assert_eq!(&value["payloadlen"], payload.len());
        match std::str::from_utf8(&payload) {
            Ok("") => prop_assert_eq!(&value["payload"], &Value::Null),
            Ok(text) => prop_assert_eq!(&value["payload"], text),
            Err(_) => prop_assert!(value["payload-base64"].is_string()),
        }
    }

    #[test]
    fn a_payload_of_json_says_the_same_in_every_layout(payload in json(), is_pretty in any::<bool>()) {
        let sent = if is_pretty {
            serde_json::to_vec_pretty(&payload)
        } else {
            serde_json::to_vec(&payload)
        };
        let sent = sent.expect("JSON");
        let none = MessageProperties::new();
        for layout in [Layout::Compact, Layout::Pretty] {
            for destination in [Destination::Bytes, Destination::Terminal] {
                let out = render("%J", layout, destination, &arrived(&sent, &none));
                let value: Value = serde_json::from_slice(&out).expect("JSON");
                prop_assert_eq!(&value["payload"], &payload);
            }
        }
    }

    #[test]
    fn a_terminal_gets_no_control_character_but_ends_of_lines_and_tabs(
        payload in prop::collection::vec(any::<u8>(), 0..64),
        properties in properties(),
        format in "(%[-0]?[0-9]?[ACDEFIjJlmpPqRrStUxX]){1,6}",
    ) {
        let out = render(&format, Layout::Compact, Destination::Terminal, &arrived(&payload, &properties));
        let text = String::from_utf8(out).expect("text");
        let control = text.chars().find(|&character| character.is_control() && !"\n\t".contains(character));
        prop_assert_eq!(control, None);
    }

    #[test]
    fn every_text_is_a_format_or_is_told_what_is_wrong(text in any::<String>(), format in "[%@\\\\.0-9a-zA-Z-]{0,12}") {
        for text in [text, format] {
            match text.parse::<Format>() {
                Ok(_) => {
                    render(&text, Layout::Compact, Destination::Bytes, &arrived(b"x", &MessageProperties::new()));
                }
                Err(error) => prop_assert!(!error.is_empty() && !error.contains('\n')),
            }
        }
    }
}
