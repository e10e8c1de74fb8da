//! One deadline over every handshake.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, pause},
};
use whimbrel_net::{Connect, ConnectError, ConnectStage, Transport, WebSocketRequest};

use crate::{
    certificates::{Authority, Holder},
    servers::{Server, TlsServer, serve_one},
};

/// Takes the connection and what the client says, and never answers.
async fn silent() -> Server<()> {
    serve_one(async |mut tcp: TcpStream| {
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    })
    .await
}

fn assert_timed_out<T: std::fmt::Debug>(result: Result<T, ConnectError>, expected: ConnectStage) {
    match result {
        Err(ConnectError::TimedOut { stage, limit, .. }) => {
            assert_eq!(stage, expected);
            assert_eq!(limit, Connect::default().timeout);
        }
        other => panic!("{other:?}"),
    }
}

fn request() -> WebSocketRequest {
    WebSocketRequest::new("/").unwrap()
}

#[tokio::test]
async fn server_that_never_answers_in_tls_is_given_up_in_time() {
    let server = silent().await;
    let tls = Authority::new("CA").trusted().build().unwrap();
    pause();
    let started = Instant::now();
    assert_timed_out(server.connect_tls(tls).await, ConnectStage::Tls);
    assert_in_time(started);
}

#[tokio::test]
async fn server_that_never_answers_in_http_is_given_up_in_time() {
    let server = silent().await;
    let transport = Transport::WebSocket {
        address: server.address(),
        request: request(),
    };
    pause();
    let started = Instant::now();
    let result = Connect::default().connect(&transport).await;
    assert_timed_out(result, ConnectStage::WebSocket);
    assert_in_time(started);
}

/// The layers share one limit: what TLS used is not there for WebSocket.
#[tokio::test]
async fn time_runs_on_from_layer_to_layer() {
    const USED: Duration = Duration::from_secs(7);
    let authority = Authority::new("CA");
    let issued = authority.issue(Holder::Server(&["127.0.0.1"]));
    let server = TlsServer::default()
        .serve(&issued, async |accepted| {
            let mut stream = accepted.unwrap();
            // The clock stood still enough until here; now only the test moves it.
            pause();
            tokio::time::advance(USED).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
    let transport = Transport::SecureWebSocket {
        address: server.address(),
        tls: authority.trusted().build().unwrap(),
        request: request(),
    };
    let started = Instant::now();
    let result = Connect::default().connect(&transport).await;
    assert_timed_out(result, ConnectStage::WebSocket);
    assert_in_time(started);
}

/// At the deadline, but for the millisecond that timers are rounded to.
fn assert_in_time(started: Instant) {
    let late = started.elapsed().checked_sub(Connect::default().timeout);
    assert!(
        late.is_some_and(|late| late <= Duration::from_millis(2)),
        "{:?}",
        started.elapsed()
    );
}
