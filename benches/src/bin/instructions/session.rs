//! Whole exchanges between the two roles of a connection.

use whimbrel_benches::{Link, counted};
use whimbrel_broker_core::session::codec::{ProtocolVersion, QoS};

use crate::Scene;

/// One operation is one message published, acknowledged in full and finished, both sides together.
pub(crate) fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for (version, name) in [(ProtocolVersion::V311, "v4"), (ProtocolVersion::V5, "v5")] {
        for (qos, qos_name) in [
            (QoS::AtMostOnce, "qos0"),
            (QoS::AtLeastOnce, "qos1"),
            (QoS::ExactlyOnce, "qos2"),
        ] {
            let name = format!("session/{name}/{qos_name}");
            scenes.push(Scene::new(name, move || exchange(version, qos)));
        }
    }
    scenes
}

fn exchange(version: ProtocolVersion, qos: QoS) -> usize {
    let mut link = Link::connected(version);
    let expected = if qos == QoS::AtMostOnce { 0 } else { WINDOW };
    // Buffers and tables have their sizes now.
    assert_eq!(link.publish(qos, WINDOW), expected);
    counted(|| {
        for _ in 0..WINDOWS {
            assert_eq!(link.publish(qos, WINDOW), expected);
        }
    });
    WINDOW * WINDOWS
}

const WINDOW: usize = 64;
const WINDOWS: usize = 16;
