//! [`numbers_arrive`]: the load of the tests that make things fail, and its judge.

use std::future::{Future, IntoFuture};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whimbrel_client::Client;
use whimbrel_client::codec::QoS;

/// Publishes numbers in order while `fail` has its way, and checks that the subscriber sees all of them, the first copies in
/// order, and with QoS 2 no other. Ends both clients.
///
/// # Panics
///
/// Where it is otherwise, or takes longer than a minute.
pub async fn numbers_arrive(
    publisher: Client,
    subscriber: Client,
    qos: QoS,
    fail: impl Future<Output = ()>,
) {
    let subscribed = timeout(PATIENCE, subscriber.subscribe("n").qos(qos).into_future()).await;
    let mut messages = subscribed.expect("in time").expect("granted");
    let publishing = tokio::spawn(async move {
        for number in 0..COUNT {
            let publish = publisher.publish("n", number.to_string()).qos(qos);
            drop(publish.enqueue().await.expect("accepted"));
            if number % 16 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        publisher.disconnect().await
    });
    let receiving = tokio::spawn(async move {
        let (mut next, mut again) = (0_u32, 0);
        while next < COUNT {
            let message = messages.recv().await.expect("the client goes on");
            let text = std::str::from_utf8(message.payload()).expect("a number");
            let number: u32 = text.parse().expect("a number");
            assert!(number <= next, "{number} came before {next}");
            if number == next {
                next += 1;
            } else {
                again += 1;
            }
        }
        (again, subscriber)
    });
    fail.await;
    let published = timeout(PATIENCE, publishing).await.expect("in time");
    published.expect("no panic").expect("all is acknowledged");
    let received = timeout(PATIENCE, receiving).await.expect("nothing is lost");
    let (again, subscriber) = received.expect("in order");
    assert!(qos != QoS::ExactlyOnce || again == 0, "{again} came twice");
    subscriber.disconnect().await.expect("in order");
}

/// How long anything may take on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that are published.
const COUNT: u32 = 2_000;
