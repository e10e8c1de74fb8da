//! PINGREQ and PINGRESP.

use crate::case::{Case, case};
use crate::client::Client;
use crate::context::Context;
use crate::proof::{MALFORMED, Twin, refuses};
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        each_pingreq_gets_a_pingresp,
        [V31, V311, V5],
        ["3:MQTT-3.12.4-1", "5:MQTT-3.12.4-1"]
    ),
    case!(
        pingreq_with_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
];

async fn each_pingreq_gets_a_pingresp(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    // Three in one segment are three.
    client.send_bytes(&[0xC0, 0, 0xC0, 0, 0xC0, 0]).await?;
    for _ in 0..3 {
        client.expect_pingresp().await?;
    }
    client.expect_silence().await?;
    client.disconnect().await
}

async fn pingreq_with_flags_is_refused(context: Context) -> Outcome {
    refuses(&context, &Twin::ping(), wire::packet(0xC1, &[]), MALFORMED).await
}
