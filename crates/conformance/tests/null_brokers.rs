//! The instrument is tested: against brokers that serve nobody, no case passes.
//!
//! Not even what a CONNACK shows: cases about that see to it that the connection is served too. A new case that passes here
//! is a defect of the case.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_conformance::{
    Order, Probe, Report, RunError, RunOptions, Target, Timing, Verdict, run,
};

#[tokio::test]
async fn nothing_passes_against_a_broker_that_hangs_up_at_once() {
    let report = run_against(NullBroker::HangsUp, Order::Declared).await;
    assert_eq!(passing(&report), BTreeSet::new());
}

#[tokio::test]
async fn nothing_passes_against_a_broker_that_never_says_anything() {
    let report = run_against(NullBroker::Mute, Order::Declared).await;
    assert_eq!(passing(&report), BTreeSet::new());
}

#[tokio::test]
async fn nothing_passes_against_a_broker_that_accepts_and_hangs_up() {
    let report = run_against(NullBroker::AcceptsAndHangsUp, Order::Declared).await;
    assert_eq!(passing(&report), BTreeSet::new());
}

#[tokio::test]
async fn nothing_passes_against_a_broker_that_accepts_and_answers_nothing() {
    let report = run_against(NullBroker::AcceptsAndIgnores, Order::Declared).await;
    assert_eq!(passing(&report), BTreeSet::new());
}

#[tokio::test]
async fn verdicts_do_not_depend_on_the_order() {
    let declared = run_against(NullBroker::AcceptsAndHangsUp, Order::Declared).await;
    let reversed = run_against(NullBroker::AcceptsAndHangsUp, Order::Reversed).await;
    let differing: Vec<_> = verdicts(&declared)
        .into_iter()
        .zip(verdicts(&reversed))
        .filter(|(declared, reversed)| declared != reversed)
        .collect();
    assert_eq!(differing, []);
    assert!(!verdicts(&declared).is_empty());
}

#[tokio::test]
async fn who_is_no_broker_is_told_so() {
    let target = NullBroker::HangsUp.start().await;
    let error = run(&target, &options(Order::Declared, Probe::Required), |_| {}).await;
    let error = error.expect_err("no report");
    assert!(matches!(error, RunError::NotServed { .. }), "{error:?}");
    assert!(
        error.to_string().contains("it hangs up on CONNECT"),
        "{error}"
    );
}

#[tokio::test]
async fn who_does_not_listen_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let target: Target = format!("mqtt://{address}").parse().expect("a target");
    let error = run(&target, &options(Order::Declared, Probe::Required), |_| {}).await;
    let error = error.expect_err("no report");
    assert!(matches!(error, RunError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unknown_statement_is_refused_before_anything_is_sent() {
    let target = NullBroker::Mute.start().await;
    let mut options = options(Order::Declared, Probe::Required);
    options.only = vec!["MQTT-9.9.9-9".to_owned()];
    let error = run(&target, &options, |_| {}).await.expect_err("no report");
    let id = "MQTT-9.9.9-9".to_owned();
    assert_eq!(error, RunError::UnknownStatement { id });
}

/// A broker that serves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NullBroker {
    /// Closes each connection at once.
    HangsUp,
    /// Reads, and never says anything.
    Mute,
    /// Answers CONNECT with CONNACK 0x00 and closes.
    AcceptsAndHangsUp,
    /// Answers CONNECT with CONNACK 0x00 and ignores the rest.
    AcceptsAndIgnores,
}

impl NullBroker {
    /// Serves on a free port until the test's runtime ends.
    async fn start(self) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.serve(stream));
            }
        });
        format!("mqtt://{address}").parse().expect("a target")
    }

    async fn serve(self, mut stream: TcpStream) {
        if self == NullBroker::HangsUp {
            return;
        }
        let mut buffer = [0; 4096];
        let mut accepted = false;
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let input = &buffer[..length];
            if self == NullBroker::Mute || accepted || input[0] >> 4 != 1 {
                continue;
            }
            accepted = true;
            // The level follows the name, which is "MQTT" or "MQIsdp".
            let v5 = input.windows(5).any(|window| window == b"MQTT\x05");
            let connack: &[u8] = if v5 {
                &[0x20, 3, 0, 0, 0]
            } else {
                &[0x20, 2, 0, 0]
            };
            if stream.write_all(connack).await.is_err() {
                return;
            }
            if self == NullBroker::AcceptsAndHangsUp && stream.shutdown().await.is_err() {
                return;
            }
        }
    }
}

async fn run_against(broker: NullBroker, order: Order) -> Report {
    let target = broker.start().await;
    let report = run(&target, &options(order, Probe::BestEffort), |_| {}).await;
    report.expect("a report")
}

fn options(order: Order, probe: Probe) -> RunOptions {
    let mut options = RunOptions::default();
    options.order = order;
    options.probe = probe;
    // Bursts that fit into the backlog of a listener.
    options.concurrency = 64;
    options.timing = Some(Timing {
        answer: Duration::from_millis(800),
        silence: Duration::from_millis(40),
        ..Timing::default()
    });
    options
}

fn passing(report: &Report) -> BTreeSet<&str> {
    let cases = report.sections.iter().flat_map(|section| &section.cases);
    let passing = cases.filter(|case| case.verdict == Verdict::Pass);
    passing.map(|case| case.name).collect()
}

/// Whether each case passed, failed or was skipped, in the order of the report.
fn verdicts(report: &Report) -> Vec<(&str, &str, &str)> {
    let sections = report.sections.iter();
    let of = |section| -> Vec<_> {
        let section: &whimbrel_conformance::Section = section;
        let cases = section.cases.iter().map(|case| {
            let verdict = match &case.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail(_) => "fail",
                Verdict::Skip { .. } => "skip",
                Verdict::NotVisible { .. } => "not visible",
            };
            (section.version.as_str(), case.name, verdict)
        });
        cases.collect()
    };
    sections.flat_map(of).collect()
}
