//! Many clients in one process: what an idle one takes, and how long all of them take to come back.
//!
//! ```text
//! usage: client-fleet HOST:PORT [CLIENTS]
//! ```
//!
//! Each client has a session that is kept, and one subscription. The links go through a proxy in this process that cuts all of
//! them at once; the time is from the cut to the last CONNACK that goes on with its session.

use std::future::IntoFuture;
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_client::{Client, ConnectionState, Established, Options, Subscription};
use whimbrel_interop::Proxy;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments
        .first()
        .and_then(|address| address.to_socket_addrs().ok()?.next());
    let count = arguments
        .get(1)
        .map_or(Ok(1_000), |count| count.parse::<usize>());
    let (Some(address), Ok(count)) = (address, count) else {
        eprintln!("usage: client-fleet HOST:PORT [CLIENTS]");
        return ExitCode::from(2);
    };
    let before = resident_bytes();
    let fleet = fleet(address.port(), count, "direct").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle clients, each with a subscription: {idle} bytes resident each");
    drop(fleet);

    let proxy = Proxy::start(address).await;
    let fleet = self::fleet(proxy.address().port(), count, "proxied").await;
    let before: Vec<_> = fleet
        .iter()
        .map(|(client, _)| established(client))
        .collect();
    let began = Instant::now();
    proxy.cut();
    for ((client, _), before) in fleet.iter().zip(&before) {
        let mut state = client.state();
        let back = state.wait_for(|state| match state {
            ConnectionState::Connected(now) => {
                let is_another = before
                    .as_ref()
                    .is_none_or(|before| !Arc::ptr_eq(before, now));
                is_another && now.session_present()
            }
            _ => false,
        });
        drop(back.await);
    }
    println!(
        "{count} clients are back with their sessions after {:.2?}",
        began.elapsed()
    );
    ExitCode::SUCCESS
}

fn established(client: &Client) -> Option<Arc<Established>> {
    match &*client.state().borrow() {
        ConnectionState::Connected(established) => Some(established.clone()),
        _ => None,
    }
}

async fn fleet(port: u16, count: usize, kind: &str) -> Vec<(Client, Subscription)> {
    let mut fleet = Vec::with_capacity(count);
    for number in 0..count {
        let options = Options::new("127.0.0.1", port)
            .client_id(format!("fleet-{kind}-{number}"))
            .clean_start(false)
            .session_expiry_secs(60);
        let client = Client::spawn(options).expect("valid options");
        let subscribing = client
            .subscribe(format!("fleet/{kind}/{number}"))
            .into_future();
        let subscription = subscribing.await.expect("granted");
        fleet.push((client, subscription));
    }
    fleet
}

/// Of this process, as Linux tells it; 0 elsewhere.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
