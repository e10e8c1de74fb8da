//! [`Recorder`]: the hook of the simulated broker.

use whimbrel_broker_core::session::InboundPublish;
use whimbrel_broker_core::session::codec::{ReasonCode, SubscribeRef, SubscriptionId};
use whimbrel_broker_core::{Gate, Verdict};

use crate::oracle::Gated;
use crate::payload;

/// Lets the oracle see what is handled, and refuses what is denied.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) gated: Vec<Gated>,
}

impl Gate for Recorder {
    fn publish(&mut self, publish: &InboundPublish<'_>) -> Verdict {
        let topic = publish.topic.as_str().to_owned();
        let is_denied = is_denied(&topic);
        let packet = &publish.publish;
        self.gated.push(Gated::Publish {
            key: payload::decode(packet.payload()),
            qos: packet.qos(),
            retain: packet.retain(),
            topic,
            is_denied,
        });
        if is_denied {
            Verdict::Refuse(ReasonCode::NotAuthorized)
        } else {
            Verdict::Allow
        }
    }

    fn subscribe(&mut self, subscribe: &SubscribeRef<'_>) -> Verdict {
        self.gated.push(Gated::Subscribe {
            filters: subscribe
                .filters()
                .map(|request| (request.filter.to_owned(), request.options))
                .collect(),
            id: subscribe.subscription_id().map(SubscriptionId::get),
        });
        Verdict::Allow
    }
}

/// Topics that the hook refuses.
pub(crate) fn is_denied(topic: &str) -> bool {
    topic.starts_with("deny/")
}
