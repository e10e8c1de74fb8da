//! Workers that share one subscription, and acknowledge a job when it is done: one that fails comes to another.
//!
//! `cargo run -p whimbrel-client --example worker_pool [URL [JOBS]]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use whimbrel_client::codec::QoS;
use whimbrel_client::{Client, ManualSubscription, Options};

const WORKERS: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or("mqtt://localhost:1883".to_owned());
    let jobs: u32 = arguments.next().as_deref().unwrap_or("30").parse()?;
    let (done, all_done) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let client = Client::spawn(Options::from_url(&url)?)?;
        let queue = client
            .subscribe("$share/pool/jobs/+")
            .qos(QoS::AtLeastOnce)
            .manual_acks()
            .await?;
        let (done, all_done) = (done.clone(), all_done.clone());
        workers.push(tokio::spawn(async move {
            let worked = work(queue, &done, jobs, &all_done).await;
            println!("worker {number} did {worked}");
            client.disconnect().await
        }));
    }
    let boss = Client::spawn(Options::from_url(&url)?)?;
    for job in 0..jobs {
        let publish = boss
            .publish(format!("jobs/{job}"), "do it")
            .qos(QoS::AtLeastOnce);
        drop(publish.enqueue().await?);
    }
    boss.disconnect().await?;
    all_done.notified().await;
    for worker in &workers {
        worker.abort();
    }
    println!("{jobs} jobs are done");
    Ok(())
}

async fn work(
    mut queue: ManualSubscription,
    done: &AtomicU32,
    jobs: u32,
    all_done: &Notify,
) -> u32 {
    let mut worked = 0;
    while let Some(job) = queue.recv().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
        // Dropped instead, or if this process ended here, it would be delivered again.
        job.ack();
        worked += 1;
        if done.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
            all_done.notify_one();
        }
    }
    worked
}
