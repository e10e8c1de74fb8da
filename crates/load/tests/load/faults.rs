//! What a broker does wrong is found out.

use std::time::Duration;

use whimbrel_broker::topic::{SubscriptionFilter, TopicName};
use whimbrel_broker::{Access, Authorizer, Broker, BrokerConfig, ClientInfo};
use whimbrel_load::codec::QoS;
use whimbrel_load::{
    Afterwards, Amount, Gone, Idle, Messages, Offline, Options, Pace, Report, Retained, RunError,
    Scenario, Shape, Storm, run,
};

use crate::proxy::{Fault, proxy};
use crate::scenarios::{messages, options};
use crate::server::Server;

fn with_fault(fault: Fault, scenario: Scenario, change: impl FnOnce(&mut Options)) -> Report {
    let server = Server::start();
    let mut options = options(proxy(server.address, fault), scenario);
    // Long enough for a busy machine to be no fault.
    options.stall = Duration::from_millis(1_500);
    change(&mut options);
    run(&options, |_| {}).expect("it runs")
}

fn pair(fault: Fault, qos: QoS) -> Report {
    let scenario = Scenario::Messages(Messages {
        qos,
        qos_sub: qos,
        amount: Amount::Messages(100),
        ..messages(Shape::Pairs, 1, 1)
    });
    with_fault(fault, scenario, |_| {})
}

/// Lost, duplicates, out of order, corrupt, strays.
fn counts(report: &Report) -> [u64; 5] {
    let findings = &report.findings;
    [
        findings.lost,
        findings.duplicates,
        findings.out_of_order,
        findings.corrupt,
        findings.strays,
    ]
}

#[test]
fn a_proxy_that_does_no_wrong_is_clean() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let report = pair(Fault::None, qos);
        assert!(report.is_clean(), "{report}");
        assert_eq!(counts(&report), [0; 5]);
    }
}

#[test]
fn a_dropped_message_is_found_at_qos_0_and_1() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let report = pair(Fault::Drop, qos);
        assert_eq!(counts(&report), [1, 0, 0, 0, 0], "{report}");
        assert_eq!(report.faults, ["1 deliveries lost"]);
        let example = "subscriber 0 never got 9 to 9 of publisher 0".to_owned();
        assert_eq!(report.findings.examples, [example]);
    }
}

#[test]
fn a_duplicate_is_found_at_qos_0_and_1() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let report = pair(Fault::Duplicate, qos);
        assert_eq!(counts(&report), [0, 1, 0, 0, 0], "{report}");
        assert!(!report.is_clean());
        assert_eq!(
            report.findings.examples,
            ["subscriber 0 got 9 of publisher 0 again"]
        );
    }
}

#[test]
fn two_swapped_messages_are_found_at_every_qos() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let report = pair(Fault::Swap, qos);
        assert_eq!(counts(&report), [0, 0, 1, 0, 0], "{report}");
        assert!(!report.is_clean());
        assert_eq!(
            report.findings.examples,
            ["subscriber 0 got 9 of publisher 0 after 10"]
        );
    }
}

#[test]
fn a_flipped_bit_is_found_and_its_message_is_lost() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let report = pair(Fault::Flip, qos);
        assert_eq!(counts(&report), [1, 0, 0, 1, 0], "{report}");
        assert!(!report.is_clean());
    }
}

#[test]
fn a_message_on_another_topic_is_astray_and_lost() {
    let report = pair(Fault::Misroute, QoS::AtLeastOnce);
    assert_eq!(counts(&report), [1, 0, 0, 0, 1], "{report}");
    assert!(!report.is_clean());
}

/// Lets some through.
struct Denies {
    /// The publisher whose topic nobody may publish to.
    publisher: &'static str,
    subscriptions: Access,
}

impl Authorizer for Denies {
    fn may_publish(&self, _: &ClientInfo, topic: &TopicName) -> Access {
        if topic.as_str().ends_with(self.publisher) {
            Access::Deny
        } else {
            Access::Allow
        }
    }

    fn may_subscribe(&self, _: &ClientInfo, _: SubscriptionFilter<'_>) -> Access {
        self.subscriptions
    }
}

#[test]
fn refused_publications_are_counted_and_lost() {
    let server = Server::built(|| {
        Broker::builder().authorizer(Denies {
            publisher: "/1",
            subscriptions: Access::Allow,
        })
    });
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let scenario = Scenario::Messages(Messages {
            qos,
            qos_sub: qos,
            amount: Amount::Messages(20),
            ..messages(Shape::Pairs, 2, 2)
        });
        let mut options = options(server.address, scenario);
        options.stall = Duration::from_millis(1_500);
        let report = run(&options, |_| {}).expect("it runs");
        assert_eq!(report.findings.refused, 10, "{report}");
        assert_eq!(report.findings.lost, 10, "{report}");
        assert_eq!(report.findings.unacknowledged, 0, "{report}");
        assert!(report.findings.examples[0].contains("0x87"), "{report}");
    }
}

#[test]
fn a_refused_subscription_is_no_run() {
    let server = Server::built(|| {
        Broker::builder().authorizer(Denies {
            publisher: "none",
            subscriptions: Access::Deny,
        })
    });
    let scenario = Scenario::Messages(messages(Shape::FanIn, 2, 2));
    let error = run(&options(server.address, scenario), |_| {}).expect_err("nobody may subscribe");
    let RunError::Setup { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(matches!(source, Gone::NotSubscribed(_)), "{source:?}");
}

#[test]
fn loss_that_is_allowed_is_told_and_is_no_fault() {
    let scenario = Scenario::Messages(Messages {
        qos: QoS::AtMostOnce,
        amount: Amount::Messages(100),
        ..messages(Shape::Pairs, 1, 1)
    });
    let report = with_fault(Fault::Drop, scenario, |options| options.allow_loss = true);
    assert_eq!(report.findings.lost, 1);
    assert!(report.is_clean(), "{report}");
    assert!(
        report
            .warnings
            .iter()
            .any(|text| text.contains("1 deliveries lost"))
    );
}

#[test]
fn one_delivery_of_many_that_is_lost_is_found() {
    let scenario = Scenario::Messages(messages(Shape::FanOut, 1, 10));
    let report = with_fault(Fault::Drop, scenario, |_| {});
    assert_eq!(counts(&report), [1, 0, 0, 0, 0], "{report}");
}

#[test]
fn a_group_that_loses_or_repeats_is_found() {
    let group = || Scenario::Messages(messages(Shape::Shared, 2, 3));
    let report = with_fault(Fault::Drop, group(), |_| {});
    assert_eq!(report.findings.lost, 1, "{report}");
    let report = with_fault(Fault::Duplicate, group(), |_| {});
    assert_eq!(report.findings.duplicates, 1, "{report}");
    assert!(!report.is_clean());
    // Between members there is no order, and within one the standard promises none.
    let report = with_fault(Fault::Swap, group(), |_| {});
    assert_eq!(counts(&report)[..2], [0, 0], "{report}");
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_lost_message_at_a_fixed_rate_is_found() {
    let scenario = Scenario::Messages(Messages {
        pace: Pace::Rate(1_000.0),
        amount: Amount::Messages(200),
        ..messages(Shape::Pairs, 2, 2)
    });
    let report = with_fault(Fault::Drop, scenario, |_| {});
    assert_eq!(counts(&report), [1, 0, 0, 0, 0], "{report}");
}

#[test]
fn a_broker_that_hangs_is_given_up_and_what_is_missing_is_counted() {
    let report = pair(Fault::Hang, QoS::AtLeastOnce);
    // Nine came. Windows were given up once, so more were sent than the first twenty.
    let traffic = report.traffic.as_ref().expect("messages");
    assert_eq!(traffic.delivered, 9, "{report}");
    assert_eq!(report.findings.lost, traffic.published - 9);
    assert!(!report.is_clean());
}

#[test]
fn the_time_of_a_run_is_its_limit() {
    let scenario = Scenario::Messages(Messages {
        amount: Amount::Duration(Duration::from_secs(600)),
        ..messages(Shape::Pairs, 1, 1)
    });
    let report = with_fault(Fault::None, scenario, |options| {
        options.timeout = Some(Duration::from_secs(1));
    });
    assert!(report.timed_out);
    assert!(report.elapsed_secs < 30.0);
    assert!(
        report.faults.iter().any(|text| text.contains("was up")),
        "{report}"
    );
}

#[test]
fn a_lost_connection_is_a_fault_in_every_scenario() {
    let report = pair(Fault::Close, QoS::AtLeastOnce);
    assert_eq!(report.findings.lost_connections, 1, "{report}");
    assert!(report.elapsed_secs < 30.0);

    let retained = Scenario::Retained(Retained {
        messages: 50,
        publishers: 1,
        subscribers: 2,
        qos: QoS::AtLeastOnce,
        qos_sub: QoS::AtLeastOnce,
        size: 64,
        in_flight: 10,
        afterwards: Afterwards::Clear,
    });
    let report = with_fault(Fault::Close, retained, |_| {});
    assert_eq!(report.findings.lost_connections, 1, "{report}");
    assert!(report.findings.lost > 0, "{report}");
}

#[test]
fn a_broker_that_goes_while_clients_idle_is_found() {
    let server = Server::start();
    let scenario = Scenario::Idle(Idle {
        clients: 5,
        duration: Duration::from_secs(60),
    });
    let options = options(server.address, scenario);
    let mut server = Some(server);
    let report = run(&options, |progress| {
        if progress.connected == 5 {
            drop(server.take());
        }
    });
    let report = report.expect("it had begun");
    assert_eq!(report.findings.lost_connections, 5, "{report}");
    assert!(report.elapsed_secs < 50.0);
}

#[test]
fn retained_messages_that_are_lost_repeated_or_corrupt_are_found() {
    let retained = || {
        Scenario::Retained(Retained {
            messages: 50,
            publishers: 2,
            subscribers: 1,
            qos: QoS::AtLeastOnce,
            qos_sub: QoS::AtLeastOnce,
            size: 64,
            in_flight: 10,
            afterwards: Afterwards::Clear,
        })
    };
    for (fault, expected) in [
        (Fault::Drop, [1, 0, 0, 0, 0]),
        (Fault::Duplicate, [0, 1, 0, 0, 0]),
        (Fault::Flip, [1, 0, 0, 1, 0]),
    ] {
        let report = with_fault(fault, retained(), |_| {});
        assert_eq!(counts(&report), expected, "{fault:?}: {report}");
        assert!(!report.is_clean());
    }
}

#[test]
fn what_goes_wrong_among_many_subscriptions_is_found() {
    // One filter of each client and one publisher: the tenth message has others of its topic behind it.
    let scenario = || {
        Scenario::Messages(Messages {
            qos: QoS::AtMostOnce,
            amount: Amount::Messages(100),
            ..messages(Shape::Subscriptions { each: 1 }, 1, 2)
        })
    };
    for (fault, expected) in [
        (Fault::None, [0, 0, 0, 0, 0]),
        (Fault::Drop, [1, 0, 0, 0, 0]),
        (Fault::Duplicate, [0, 1, 0, 0, 0]),
        (Fault::Swap, [0, 0, 1, 0, 0]),
        (Fault::Flip, [1, 0, 0, 1, 0]),
        (Fault::Misroute, [1, 0, 0, 0, 1]),
    ] {
        let report = with_fault(fault, scenario(), |_| {});
        assert_eq!(counts(&report), expected, "{fault:?}: {report}");
        assert_eq!(report.is_clean(), fault == Fault::None);
    }
}

#[test]
fn what_goes_wrong_with_messages_for_who_was_away_is_found() {
    let scenario = || {
        Scenario::Offline(Offline {
            messages: 100,
            publishers: 1,
            sessions: 2,
            qos: QoS::AtLeastOnce,
            size: 64,
            in_flight: 10,
        })
    };
    for (fault, expected) in [
        (Fault::None, [0, 0, 0, 0, 0]),
        (Fault::Drop, [1, 0, 0, 0, 0]),
        (Fault::Duplicate, [0, 1, 0, 0, 0]),
        (Fault::Swap, [0, 0, 1, 0, 0]),
        (Fault::Flip, [1, 0, 0, 1, 0]),
        (Fault::Misroute, [1, 0, 0, 0, 1]),
    ] {
        let report = with_fault(fault, scenario(), |_| {});
        assert_eq!(counts(&report), expected, "{fault:?}: {report}");
        assert_eq!(report.is_clean(), fault == Fault::None);
    }
    let report = with_fault(Fault::Close, scenario(), |_| {});
    assert_eq!(report.findings.lost_connections, 1, "{report}");
    assert!(report.findings.lost > 0, "{report}");
}

#[test]
fn a_session_that_is_not_kept_is_found() {
    let mut config = BrokerConfig::default();
    config.core.session_expiry_secs_max = 0;
    let server = Server::with(config);
    let scenario = Scenario::Offline(Offline {
        messages: 20,
        publishers: 1,
        sessions: 2,
        qos: QoS::AtLeastOnce,
        size: 64,
        in_flight: 10,
    });
    let mut options = options(server.address, scenario);
    options.stall = Duration::from_millis(500);
    let report = run(&options, |_| {}).expect("it runs");
    assert_eq!(report.findings.lost_sessions, 2, "{report}");
    assert_eq!(report.findings.lost, 20, "{report}");
}

#[test]
fn clients_that_cannot_connect_are_counted_in_a_storm() {
    let mut config = BrokerConfig::default();
    config.connections_max = 6;
    let server = Server::with(config);
    let scenario = Scenario::Connect(Storm {
        clients: 10,
        rate: None,
        parallelism: 2,
    });
    let report = run(&options(server.address, scenario), |_| {}).expect("six can");
    assert_eq!(report.connect.connected, 6, "{report}");
    assert_eq!(report.faults, ["4 clients could not connect"]);
}
