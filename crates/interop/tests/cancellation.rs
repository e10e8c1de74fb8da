//! Ten thousand random cancel points: every future of the client, dropped after any number of polls.

use std::collections::BTreeSet;
use std::future::{Future, IntoFuture, poll_fn};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::{Client, ManualSubscription, Options, Reconnect, Subscription};
use whimbrel_interop::{Proxy, Server};

const PATIENCE: Duration = Duration::from_secs(60);

/// Futures that are begun, of which most are dropped.
const CANCEL_POINTS: u64 = 10_000;

/// A generator whose numbers depend on the seed only.
struct Random {
    seed: u64,
    count: u64,
}

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.count += 1;
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.seed, self.count)) % bound
    }
}

/// Polls a future so often at most, each time when it is woken or a moment has passed, and drops it then.
async fn polled<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for left in (0..polls).rev() {
        let once = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx)));
        if let Poll::Ready(output) = once.await {
            return Some(output);
        }
        if left > 0 {
            // The driver gets its turn, most often to no end yet.
            tokio::task::yield_now().await;
        }
    }
    None
}

#[tokio::test]
async fn ten_thousand_dropped_futures_lose_nothing_and_leave_nothing_behind() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    for (seed, version) in [(1, ProtocolVersion::V311), (2, ProtocolVersion::V5)] {
        let mut reconnect = Reconnect::default();
        reconnect.delay_min = Duration::from_millis(2);
        reconnect.delay_max = Duration::from_millis(20);
        let options = Options::new("127.0.0.1", proxy.address().port())
            .version(version)
            .client_id(format!("cancelled-{version}"))
            .clean_start(false)
            .queue_bytes_max(8 * 1024)
            .reconnect(reconnect);
        let client = Client::spawn(options).expect("valid options");
        cancel(&proxy, &client, version, Random { seed, count: 0 }).await;
        assert_eq!(client.unacknowledged(), 0);
        timeout(PATIENCE, client.disconnect().into_future())
            .await
            .expect("in time")
            .expect("in order");
    }
    server.stop().await;
}

async fn cancel(proxy: &Proxy, client: &Client, version: ProtocolVersion, mut random: Random) {
    let subscribed = timeout(PATIENCE, client.subscribe("kept/#").into_future()).await;
    let mut kept = subscribed.expect("in time").expect("granted");
    let mut other: Option<Subscription> = None;
    let mut manual: Option<ManualSubscription> = None;
    // By their numbers: accepted for certain, and perhaps.
    let (mut accepted, mut begun) = (BTreeSet::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    for number in 0..CANCEL_POINTS {
        if number % 500 == 499 {
            proxy.cut();
        }
        let polls = random.below(6);
        let qos = if random.below(2) == 0 {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        match random.below(12) {
            0..=3 => {
                begun.insert(number);
                let publish = client.publish("kept/m", number.to_string()).qos(qos);
                if let Some(outcome) = polled(polls, publish.into_future()).await {
                    outcome.expect("acknowledged");
                    accepted.insert(number);
                }
            }
            4 | 5 => {
                begun.insert(number);
                let publish = client.publish("kept/m", number.to_string()).qos(qos);
                if let Some(receipt) = polled(polls, publish.enqueue()).await {
                    accepted.insert(number);
                    // Its drop, too, is a cancel point.
                    polled(random.below(3), receipt.expect("accepted")).await;
                }
            }
            6 if other.is_none() => {
                if let Some(subscribed) =
                    polled(polls, client.subscribe("other/+").into_future()).await
                {
                    other = Some(subscribed.expect("the one before is gone"));
                }
            }
            7 => {
                if let Some(subscription) = other.take() {
                    polled(polls, subscription.unsubscribe()).await;
                }
            }
            8 if manual.is_none() => {
                let subscribing = client.subscribe("manual/+").manual_acks();
                if let Some(subscribed) = polled(polls, subscribing).await {
                    manual = Some(subscribed.expect("the one before is gone"));
                }
            }
            9 => {
                if let Some(subscription) = &mut manual {
                    let publish = client.publish("manual/m", "m").qos(qos);
                    drop(polled(2, publish.enqueue()).await);
                    if let Some(Some(message)) = polled(polls, subscription.recv()).await {
                        message.ack();
                    }
                }
            }
            10 if version.is_v5() => {
                let request = client
                    .request("nobody", "there")
                    .timeout(Duration::from_millis(5));
                polled(polls, request.into_future()).await;
            }
            _ => {
                polled(polls, client.connected()).await;
            }
        }
        while let Some(message) = polled(1, kept.recv()).await {
            note(&mut seen, &message.expect("the client goes on"));
        }
    }
    drop((other, manual));
    let all = async {
        while !accepted.is_subset(&seen) || client.unacknowledged() > 0 {
            match timeout(Duration::from_millis(50), kept.recv()).await {
                Ok(message) => note(&mut seen, &message.expect("the client goes on")),
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(PATIENCE, all)
        .await
        .expect("what was accepted arrives");
    assert!(
        seen.is_subset(&begun),
        "nothing arrives that was not published"
    );
    assert!(
        accepted.len() > 300 && begun.len() > accepted.len() + 1_000,
        "{} of {}",
        accepted.len(),
        begun.len()
    );
}

fn note(seen: &mut BTreeSet<u64>, message: &whimbrel_client::Message) {
    let text = std::str::from_utf8(message.payload()).expect("a number");
    seen.insert(text.parse().expect("a number"));
}
