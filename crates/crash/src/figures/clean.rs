//! What a store costs those who need none.

use std::fmt;
use std::thread;
use std::time::Duration;

use whimbrel_codec::QoS;

use super::load::{self, Template, Topics};
use super::{Bench, Each, PAYLOAD_BYTES};
use crate::process::Usage;
use crate::{BrokerCommand, Failure};

/// The same load on the same broker with and without a store, in turn.
#[derive(Clone, Debug)]
pub struct CleanFigure {
    /// QoS of the messages.
    pub qos: QoS,
    /// CPU time of the broker for each delivery with a store, run by run.
    pub with_store: Vec<f64>,
    /// Without.
    pub without: Vec<f64>,
}

/// Pairs of clients without sessions; both brokers in turn, so many times.
///
/// # Errors
///
/// When a broker or a client failed.
pub fn clean_sessions(
    bench: &Bench,
    without: &BrokerCommand,
    qos: QoS,
    messages: u32,
    runs: u32,
) -> Result<CleanFigure, Failure> {
    let mut figure = CleanFigure {
        qos,
        with_store: Vec::new(),
        without: Vec::new(),
    };
    let other = Bench {
        broker: without.clone(),
        ..bench.clone()
    };
    for _ in 0..runs {
        figure
            .without
            .push(one_run(&other, "without", qos, messages)?);
        figure
            .with_store
            .push(one_run(bench, "with-store", qos, messages)?);
    }
    Ok(figure)
}

fn one_run(bench: &Bench, name: &str, qos: QoS, messages: u32) -> Result<f64, Failure> {
    let broker = bench.start(name)?;
    let port = broker.port();
    let each = messages / u32::from(PAIRS);
    let before = Usage::of(broker.pid())?;
    thread::scope(|scope| {
        let threads = (0..PAIRS).map(|number| scope.spawn(move || pair(port, number, qos, each)));
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            let outcome = thread.join();
            outcome.map_err(|_| Failure::Other("a client's thread panicked".to_owned()))??;
        }
        Ok::<(), Failure>(())
    })?;
    let after = Usage::of(broker.pid())?;
    let deliveries = u64::from(each) * u64::from(PAIRS);
    Ok(Each::between(before, after, deliveries).cpu_micros)
}

/// A subscriber and its publisher.
fn pair(port: u16, number: u16, qos: QoS, messages: u32) -> Result<(), Failure> {
    let topic = format!("pair/{number}");
    let mut link = load::subscribe(port, &format!("reader-{number}"), true, &topic, qos)
        .map_err(Failure::client("could not subscribe"))?;
    let template = Template::new(number, Topics::One(&topic), qos, false, PAYLOAD_BYTES);
    thread::scope(|scope| {
        let reader = scope.spawn(|| load::receive(&mut link, messages, |_, _| {}));
        let client_id = format!("writer-{number}");
        load::publish(port, &client_id, template, messages, WINDOW, FOR_EVER)
            .map_err(Failure::client("a publisher failed"))?;
        let read = reader.join();
        let read = read.map_err(|_| Failure::Other("a reader's thread panicked".to_owned()))?;
        read.map_err(Failure::client("a subscriber failed"))
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for CleanFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (with_store, without) = (median(&self.with_store), median(&self.without));
        write!(
            f,
            "QoS {}: {with_store:.2} µs CPU a delivery with a store, {without:.2} without (medians of {}), ratio {:.3}; \
             with {:.2?}, without {:.2?}",
            self.qos.bits(),
            self.with_store.len(),
            with_store / without,
            self.with_store,
            self.without
        )
    }
}

const PAIRS: u16 = 4;
const WINDOW: usize = 100;
const FOR_EVER: Duration = Duration::from_secs(300);
