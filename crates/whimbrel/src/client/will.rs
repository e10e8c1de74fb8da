//! `--will-topic` and the like.

use clap::Args;
use whimbrel_client::codec::topic::TopicNameBuf;
use whimbrel_client::codec::{QoS, Will};

use super::property::{self, GivenProperty, Packet, Value};
use crate::failure::Failure;
use crate::values::Topic;

#[derive(Args, Debug)]
pub(crate) struct WillArguments {
    /// Have the server publish a message to this topic if the connection is lost
    #[arg(long, value_name = "TOPIC", allow_hyphen_values = true)]
    will_topic: Option<Topic>,

    /// The payload of that message [default: none]
    #[arg(
        long,
        value_name = "TEXT",
        requires = "will_topic",
        allow_hyphen_values = true
    )]
    will_payload: Option<String>,

    /// The QoS of that message
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    will_qos: u8,

    /// Have that message retained
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
}

impl WillArguments {
    pub(crate) fn will(&self, properties: &[GivenProperty]) -> Result<Option<Will>, Failure> {
        let values = || property::of_packet(properties, Packet::Will);
        let Some(Topic(topic)) = &self.will_topic else {
            if values().next().is_some() {
                return Err(Failure::Usage(
                    "-D will: there is no will, name its topic with --will-topic".to_owned(),
                ));
            }
            return Ok(None);
        };
        let delay = values().find_map(|value| match value {
            Value::WillDelay(seconds) => Some(*seconds),
            _ => None,
        });
        let payload = self.will_payload.clone().unwrap_or_default();
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Failure::Usage(format!(
                "--will-payload: a will has at most {PAYLOAD_BYTES_MAX} bytes"
            )));
        }
        Ok(Some(Will {
            topic: TopicNameBuf::clone(topic),
            payload: payload.into(),
            qos: qos(self.will_qos),
            retain: self.will_retain,
            delay_secs: delay.unwrap_or_default(),
            properties: property::message_properties(values()).map_err(Failure::Usage)?,
        }))
    }
}

/// The QoS of a number that clap has found to be one.
pub(crate) fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// What the two bytes of the length in front of it can say.
const PAYLOAD_BYTES_MAX: usize = 65_535;
