//! Each scenario, small, against a broker that does right.

use std::time::Duration;

use whimbrel_broker::BrokerConfig;
use whimbrel_load::codec::{ProtocolVersion, QoS};
use whimbrel_load::{
    Afterwards, Amount, Gone, Idle, Messages, Offline, Options, Pace, Report, Retained, RunError,
    Scenario, Shape, Storm, run,
};

use crate::server::Server;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

pub(crate) fn messages(shape: Shape, publishers: u32, subscribers: u32) -> Messages {
    Messages {
        shape,
        publishers,
        subscribers,
        qos: QoS::AtLeastOnce,
        qos_sub: QoS::AtLeastOnce,
        size: 64,
        amount: Amount::Messages(1_000),
        pace: Pace::InFlight(20),
        churn: None,
    }
}

pub(crate) fn options(address: std::net::SocketAddr, scenario: Scenario) -> Options {
    let mut options = Options::new(address.into(), scenario);
    options.timeout = Some(Duration::from_secs(60));
    options.threads = 2;
    options
}

fn clean(options: &Options) -> Report {
    let report = run(options, |_| {}).expect("it runs");
    assert!(report.is_clean(), "{report}");
    assert!(report.findings.examples.is_empty(), "{report}");
    report
}

#[test]
fn pairs_deliver_each_message_once_at_every_qos_and_version() {
    let server = Server::start();
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        for qos in QOS {
            let scenario = Scenario::Messages(Messages {
                qos,
                qos_sub: qos,
                ..messages(Shape::Pairs, 3, 3)
            });
            let mut options = options(server.address, scenario);
            options.version = version;
            let report = clean(&options);
            let traffic = report.traffic.expect("messages");
            assert_eq!(traffic.published, 1_000);
            assert_eq!(traffic.delivered, 1_000);
            assert_eq!(traffic.latency.count, 1_000);
            let acknowledged = traffic.acknowledged.map_or(0, |times| times.count);
            assert_eq!(acknowledged, if qos == QoS::AtMostOnce { 0 } else { 1_000 });
            assert!(traffic.delivered_per_sec > 0.0);
            assert_eq!(report.connect.connected, 6);
            assert_eq!(report.connect.time.count, 6);
        }
    }
}

#[test]
fn fan_in_and_fan_out_deliver_to_every_subscriber() {
    let server = Server::start();
    for (shape, publishers, subscribers) in [
        (Shape::FanIn, 20, 2),
        (Shape::FanOut, 1, 20),
        (Shape::FanOut, 3, 5),
    ] {
        let scenario = Scenario::Messages(messages(shape, publishers, subscribers));
        let report = clean(&options(server.address, scenario));
        let traffic = report.traffic.expect("messages");
        assert_eq!(traffic.published, 1_000);
        assert_eq!(traffic.delivered, 1_000 * u64::from(subscribers));
    }
}

#[test]
fn a_shared_subscription_delivers_each_message_to_one_member() {
    let server = Server::start();
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let scenario = Scenario::Messages(messages(Shape::Shared, 3, 4));
        let mut options = options(server.address, scenario);
        options.version = version;
        let traffic = clean(&options).traffic.expect("messages");
        assert_eq!(traffic.delivered, 1_000);
    }
}

#[test]
fn a_subscription_of_lower_qos_lowers_what_comes() {
    let server = Server::start();
    let scenario = Scenario::Messages(Messages {
        qos: QoS::ExactlyOnce,
        qos_sub: QoS::AtMostOnce,
        ..messages(Shape::Pairs, 1, 1)
    });
    let report = clean(&options(server.address, scenario));
    assert_eq!(report.findings.wrong_qos, 0);
}

#[test]
fn a_broker_that_grants_less_is_noted() {
    let mut config = BrokerConfig::default();
    config.core.connection.maximum_qos = QoS::AtLeastOnce;
    let server = Server::with(config);
    let scenario = Scenario::Messages(Messages {
        qos_sub: QoS::ExactlyOnce,
        ..messages(Shape::Pairs, 2, 2)
    });
    let report = clean(&options(server.address, scenario));
    assert!(
        report
            .warnings
            .iter()
            .any(|text| text.contains("2 subscriptions were granted a lower QoS")),
        "{report}"
    );
}

#[test]
fn payloads_larger_than_any_buffer_come_whole() {
    let server = Server::start();
    for qos in QOS {
        let scenario = Scenario::Messages(Messages {
            size: 300_000,
            amount: Amount::Messages(40),
            qos,
            qos_sub: qos,
            ..messages(Shape::FanOut, 1, 2)
        });
        let traffic = clean(&options(server.address, scenario)).traffic;
        assert_eq!(traffic.expect("messages").delivered, 80);
    }
}

#[test]
fn a_fixed_rate_is_kept_and_its_latency_counts_from_the_schedule() {
    let server = Server::start();
    let scenario = Scenario::Messages(Messages {
        pace: Pace::Rate(2_000.0),
        ..messages(Shape::Pairs, 4, 4)
    });
    let report = clean(&options(server.address, scenario));
    let traffic = report.traffic.expect("messages");
    // 1,000 messages at 2,000 a second: the last is due after 499.5 ms, however fast the broker is.
    assert!(traffic.measured_secs >= 0.4995, "{}", traffic.measured_secs);
    assert_eq!(traffic.rate, Some(2_000.0));
    let delay = traffic.send_delay.expect("an open loop");
    assert_eq!(delay.count, 1_000);
    // What the generator is late itself is part of the latency.
    assert!(traffic.latency.max_us * 1.001 >= delay.max_us);
}

#[test]
fn a_duration_ends_the_run_and_the_warm_up_is_not_measured() {
    let server = Server::start();
    let scenario = Scenario::Messages(Messages {
        amount: Amount::Duration(Duration::from_millis(400)),
        ..messages(Shape::Pairs, 2, 2)
    });
    let mut options = options(server.address, scenario);
    options.warm_up = Duration::from_millis(200);
    let mut seen = Vec::new();
    let report = run(&options, |progress| seen.push(progress.stage.to_string())).expect("it runs");
    assert!(report.is_clean(), "{report}");
    let traffic = report.traffic.expect("messages");
    assert!(
        (traffic.measured_secs - 0.4).abs() < 0.05,
        "{}",
        traffic.measured_secs
    );
    assert!(traffic.published > traffic.latency.count);
    assert!(traffic.latency.count > 0);
    seen.dedup();
    assert!(seen.contains(&"warming up".to_owned()), "{seen:?}");
    assert!(seen.contains(&"measuring".to_owned()), "{seen:?}");
}

#[test]
fn a_storm_connects_everybody_and_measures_the_time_to_connack() {
    let server = Server::start();
    let scenario = Scenario::Connect(Storm {
        clients: 300,
        rate: None,
        parallelism: 20,
    });
    let report = clean(&options(server.address, scenario));
    assert_eq!(report.connect.connected, 300);
    assert_eq!(report.connect.time.count, 300);
    assert!(report.connect.per_sec > 0.0);
}

#[test]
fn a_storm_at_a_rate_takes_its_time() {
    let server = Server::start();
    let scenario = Scenario::Connect(Storm {
        clients: 100,
        rate: Some(400.0),
        parallelism: 50,
    });
    let report = clean(&options(server.address, scenario));
    assert_eq!(report.connect.connected, 100);
    // The last one is due after 247.5 ms.
    assert!(report.connect.secs >= 0.2475, "{}", report.connect.secs);
}

#[test]
fn idle_connections_outlive_their_keep_alive() {
    let server = Server::start();
    let scenario = Scenario::Idle(Idle {
        clients: 50,
        duration: Duration::from_millis(4_000),
    });
    let mut options = options(server.address, scenario);
    // The broker closes after 3 s of silence.
    options.keep_alive_secs = 2;
    let report = clean(&options);
    assert_eq!(report.connect.connected, 50);
    assert!(report.elapsed_secs >= 4.0);
}

#[test]
fn retained_messages_are_all_fetched_and_then_cleared() {
    let server = Server::start();
    for qos in QOS {
        let retained = |afterwards| {
            Scenario::Retained(Retained {
                messages: 500,
                publishers: 3,
                subscribers: 2,
                qos,
                qos_sub: QoS::AtLeastOnce,
                size: 100,
                in_flight: 10,
                afterwards,
            })
        };
        let keep = clean(&options(server.address, retained(Afterwards::Keep)));
        let figures = keep.retained.expect("retained messages");
        assert_eq!(figures.fetched, 1_000);
        assert_eq!(figures.fetch.count, 2);
        assert!(figures.stored_per_sec > 0.0);
        let report = clean(&options(server.address, retained(Afterwards::Clear)));
        assert_eq!(report.warnings, [""; 0]);
    }
}

#[test]
fn each_message_reaches_one_of_many_subscriptions_at_every_qos_and_version() {
    let server = Server::start();
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        for qos in QOS {
            // More than there is room for in one SUBSCRIBE, and more messages than filters.
            let scenario = Scenario::Messages(Messages {
                qos,
                qos_sub: qos,
                ..messages(Shape::Subscriptions { each: 110 }, 3, 5)
            });
            let mut options = options(server.address, scenario);
            options.version = version;
            let report = clean(&options);
            assert_eq!(report.traffic.expect("messages").delivered, 1_000);
            let subscriptions = report.subscriptions.expect("subscriptions");
            assert_eq!(subscriptions.filters, 550);
            assert!(subscriptions.subscribed_per_sec > 0.0);
            assert_eq!(subscriptions.churn_rate, None);
        }
    }
}

#[test]
fn subscriptions_come_and_go_beside_the_messages() {
    let server = Server::start();
    for shape in [Shape::Subscriptions { each: 9 }, Shape::Pairs] {
        let scenario = Scenario::Messages(Messages {
            amount: Amount::Duration(Duration::from_millis(500)),
            churn: Some(400.0),
            ..messages(shape, 3, 3)
        });
        let report = clean(&options(server.address, scenario));
        assert_eq!(report.connect.connected, 7);
        let subscriptions = report.subscriptions.expect("subscriptions");
        // 200 are due; the last of them may have been under way.
        assert!((150..=201).contains(&subscriptions.churned), "{report}");
    }
}

#[test]
fn who_was_away_gets_everything_and_its_session_is_ended() {
    let server = Server::start();
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let scenario = Scenario::Offline(Offline {
                messages: 1_000,
                publishers: 3,
                sessions: 7,
                qos,
                size: 100,
                in_flight: 10,
            });
            let mut options = options(server.address, scenario);
            options.version = version;
            let report = clean(&options);
            assert_eq!(report.warnings, [""; 0]);
            let figures = report.offline.expect("messages for who was away");
            assert_eq!((figures.drained, figures.drain.count), (1_000, 7));
            assert!(figures.stored_per_sec > 0.0 && figures.drained_per_sec > 0.0);
            assert_eq!(figures.acknowledged.expect("above QoS 0").count, 1_000);
            // Ten clients: those that come back are not counted again.
            assert_eq!(report.connect.connected, 10);
        }
    }
}

#[test]
fn what_subscriptions_and_stored_messages_cost_is_told_where_the_system_does() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Server::start();
    let of = |scenario| {
        let mut options = options(server.address, scenario);
        options.pid = Some(std::process::id());
        clean(&options).process.expect("asked for")
    };
    let shape = Shape::Subscriptions { each: 500 };
    let process = of(Scenario::Messages(messages(shape, 2, 4)));
    assert!(process.cpu_us_per_subscription.expect("filters") > 0.0);
    assert!(process.rss_bytes_per_subscription.is_some());
    assert_eq!(process.cpu_us_per_stored_message, None);
    let process = of(Scenario::Offline(Offline {
        messages: 2_000,
        publishers: 2,
        sessions: 2,
        qos: QoS::AtLeastOnce,
        size: 200,
        in_flight: 100,
    }));
    assert!(process.cpu_us_per_stored_message.expect("messages") > 0.0);
    assert!(process.rss_bytes_per_stored_message.is_some());
    assert!(process.cpu_us_per_delivery.expect("deliveries") > 0.0);
    let process = of(Scenario::Idle(Idle {
        clients: 5,
        duration: Duration::from_millis(20),
    }));
    assert!(process.rss_bytes_per_idle_connection.is_some());
    assert_eq!(process.rss_bytes_per_subscription, None);
}

#[test]
fn memory_and_cpu_of_a_process_are_told_where_the_system_does() {
    let server = Server::start();
    let scenario = Scenario::Messages(messages(Shape::Pairs, 2, 2));
    let mut options = options(server.address, scenario);
    options.pid = Some(std::process::id());
    if !cfg!(target_os = "linux") {
        assert!(matches!(run(&options, |_| {}), Err(RunError::Options(_))));
        return;
    }
    let report = clean(&options);
    let process = report.process.expect("asked for");
    assert!(process.cpu_secs > 0.0);
    assert!(process.cpu_us_per_delivery.expect("deliveries") > 0.0);
    assert!(process.rss_after_bytes > 1_000_000);
    assert_eq!(report.generator.busy.len(), 2);
    options.pid = Some(u32::MAX);
    assert!(matches!(
        run(&options, |_| {}),
        Err(RunError::Process { .. })
    ));
}

#[test]
fn without_a_broker_a_run_is_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    for scenario in [
        Scenario::Messages(messages(Shape::Pairs, 2, 2)),
        Scenario::Idle(Idle {
            clients: 3,
            duration: Duration::from_secs(30),
        }),
        Scenario::Connect(Storm {
            clients: 10,
            rate: None,
            parallelism: 2,
        }),
    ] {
        let error = run(&options(address, scenario), |_| {}).expect_err("nobody listens");
        let RunError::Setup { source, .. } = error else {
            panic!("{error:?}");
        };
        assert!(matches!(source, Gone::Connect(_)), "{source:?}");
    }
}

#[test]
fn a_broker_that_never_answers_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut options = options(address, Scenario::Messages(messages(Shape::Pairs, 2, 2)));
    options.timeout = Some(Duration::from_millis(500));
    let error = run(&options, |_| {}).expect_err("nobody answers");
    assert!(
        matches!(
            error,
            RunError::SetupTimedOut {
                ready: 0,
                clients: 4,
                ..
            }
        ),
        "{error:?}"
    );
}
