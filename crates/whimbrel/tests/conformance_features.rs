//! The conformance cases that need features which are off, or hooks which are not there, by default.

use std::future::ready;

use whimbrel_broker::bytes::Bytes;
use whimbrel_broker::codec::{ProtocolVersion, QoS};
use whimbrel_broker::{
    Address, Admission, AuthenticationExchange, AuthenticationStep, Authenticator, Broker,
    BrokerConfig, ClientInfo, ConnectRequest, Deciding, ReasonCode,
};
use whimbrel_conformance::{Report, RunOptions, Target, Verdict, run};

/// Begins SCRAM, and lets nobody end it: the tool has no secrets.
struct Scram;

impl Authenticator for Scram {
    async fn authenticate(&self, _: &ConnectRequest) -> Admission {
        Admission::Accept
    }

    fn begin_exchange(
        &self,
        method: &str,
        _: &ClientInfo,
    ) -> Option<Box<dyn AuthenticationExchange>> {
        (method == "SCRAM-SHA-256").then(|| Box::new(Scram) as Box<_>)
    }
}

impl AuthenticationExchange for Scram {
    fn step(&mut self, data: Option<Bytes>) -> Deciding<'_> {
        let is_first = data.is_some_and(|data| data.starts_with(b"n,,"));
        Box::pin(ready(if is_first {
            let challenge = &b"r=fyko2dl2bbzRc9Ck0zVhq5Zkserver,s=QSXCR+Q6sek8bf92,i=4096"[..];
            AuthenticationStep::Continue(Some(Bytes::from_static(challenge)))
        } else {
            AuthenticationStep::Decide(Admission::Refuse(ReasonCode::NotAuthorized))
        }))
    }
}

/// What the tool finds at a broker that `change` has configured, in MQTT 5.
fn examine(change: impl FnOnce(&mut BrokerConfig), only: &[&str]) -> Report {
    let mut config = BrokerConfig::default();
    change(&mut config);
    let mut options = RunOptions::default();
    options.versions = vec![ProtocolVersion::V5];
    options.only = only.iter().map(ToString::to_string).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let address: Address = "tcp://127.0.0.1:0".parse().expect("an address");
        let builder = Broker::builder().config(config).authenticator(Scram);
        let broker = builder.listen(address).start().await.expect("it starts");
        let port = broker.local_addrs()[0].port();
        let target: Target = format!("mqtt://127.0.0.1:{port}").parse().expect("valid");
        let report = run(&target, &options, |_| {}).await.expect("a report");
        broker.shutdown().await;
        report
    })
}

fn verdict<'r>(report: &'r Report, id: &str) -> &'r Verdict {
    let mut statements = report.sections[0].statements.iter();
    let found = statements.find(|statement| statement.id == id);
    &found.unwrap_or_else(|| panic!("{id}")).verdict
}

#[test]
fn hooks_and_checks_are_seen_from_outside() {
    let ids = [
        "5:MQTT-4.12.0-2",
        "5:MQTT-4.12.0-5",
        "5:MQTT-3.15.2-2",
        "5:MQTT-3.15.2-3",
        "5:MQTT-3.1.2-28",
        "U5-031",
        "U5-046",
    ];
    let report = examine(
        |config| {
            config.core.payload_format_checked = true;
            config.core.connection.reason_strings = true;
            config.response_topic_prefix = Some("answers".to_owned());
        },
        &ids,
    );
    assert!(!report.has_failures(), "{report}");
    for id in ids {
        let found = verdict(&report, id);
        assert!(matches!(found, Verdict::Pass), "{id}: {found:?}\n{report}");
    }
}

#[test]
fn a_broker_without_the_optional_features_conforms_as_well() {
    let report = examine(
        |config| {
            let connection = &mut config.core.connection;
            connection.maximum_qos = QoS::AtLeastOnce;
            connection.retain_available = false;
            connection.wildcard_subscription_available = false;
            connection.subscription_id_available = false;
            connection.shared_subscription_available = false;
            connection.topic_alias_maximum = 0;
        },
        &[],
    );
    assert!(!report.has_failures(), "{report}");
    for id in [
        "5:MQTT-3.2.2-9",
        "5:MQTT-3.2.2-10",
        "5:MQTT-3.2.2-12",
        "5:MQTT-3.2.2-13",
        "U5-038",
        "U5-039",
        "U5-042",
    ] {
        let found = verdict(&report, id);
        assert!(matches!(found, Verdict::Pass), "{id}: {found:?}");
    }
}
