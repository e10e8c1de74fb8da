//! Listener, connect and streams over loopback.

mod support;

use std::{io, net::SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use whimbrel_net::{Address, Connect, ConnectError, ListenOptions, OptionsError, TcpListener};

use support::{loopback, pair};

#[tokio::test]
async fn each_end_knows_the_other() {
    let (client, server) = pair(&ListenOptions::default(), Connect::default()).await;
    assert_eq!(client.peer_addr(), server.local_addr().unwrap());
    assert_eq!(server.peer_addr(), client.local_addr().unwrap());
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_local_address_is_the_one_asked_for() {
    // The whole of 127.0.0.0/8 is this machine.
    let local = std::net::IpAddr::from([127, 0, 0, 2]);
    let mut connect = Connect::default();
    connect.local = Some(local);
    let (client, server) = pair(&ListenOptions::default(), connect).await;
    assert_eq!(server.peer_addr().ip(), local);
    assert_eq!(client.local_addr().unwrap().ip(), local);
}

#[tokio::test]
async fn a_local_address_of_the_other_family_reaches_nothing() {
    let mut connect = Connect::default();
    connect.local = Some(std::net::IpAddr::from([0_u16; 8]));
    let error = connect.connect_tcp(&Address::from(loopback())).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::LocalFamily { .. }), "{error}");
}

#[tokio::test]
async fn bytes_travel_both_ways_and_shutdown_ends_them() {
    let (mut client, mut server) = pair(&ListenOptions::default(), Connect::default()).await;
    let sent: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
    let expected = sent.clone();
    let echo = tokio::spawn(async move {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        server.write_all(&received).await.unwrap();
    });
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    echo.await.unwrap();
    assert_eq!(received, expected);
}

#[tokio::test]
async fn second_listener_on_a_port_is_refused() {
    let first = TcpListener::bind(loopback(), &ListenOptions::default()).unwrap();
    let second = TcpListener::bind(first.local_addr().unwrap(), &ListenOptions::default());
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn listener_on_every_ipv6_address_takes_ipv4_unless_told_otherwise() {
    let any = SocketAddr::from(([0_u16; 8], 0));
    let mut options = ListenOptions::default();
    let mut listener = match TcpListener::bind(any, &options) {
        Ok(listener) => listener,
        // A machine without IPv6 has nothing to show here.
        Err(error) => return assert!(std::net::TcpListener::bind("[::1]:0").is_err(), "{error}"),
    };
    let over_v4 = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    Connect::default()
        .connect_tcp(&Address::from(over_v4))
        .await
        .unwrap();
    assert!(listener.accept().await.unwrap().peer_addr().is_ipv6());

    options.ipv6_only = true;
    let listener = TcpListener::bind(any, &options).unwrap();
    let over_v4 = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let refused = Connect::default()
        .connect_tcp(&Address::from(over_v4))
        .await;
    assert!(
        matches!(refused, Err(ConnectError::Connect { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn options_out_of_range_fail_the_bind() {
    let mut options = ListenOptions::default();
    options.backlog = 0;
    let error = TcpListener::bind(loopback(), &options).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<OptionsError>());
    assert_eq!(inner, Some(&OptionsError::Backlog));
}

#[tokio::test]
async fn connect_to_a_closed_port_names_the_address() {
    let listener = TcpListener::bind(loopback(), &ListenOptions::default()).unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    match Connect::default().connect_tcp(&Address::from(closed)).await {
        Err(ConnectError::Connect { remote, source }) => {
            assert_eq!(remote, closed);
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn accepted_connections_are_counted() {
    let mut listener = TcpListener::bind(loopback(), &ListenOptions::default()).unwrap();
    let counters = listener.counters();
    let address = Address::from(listener.local_addr().unwrap());
    for expected in 1..=3 {
        let _client = Connect::default().connect_tcp(&address).await.unwrap();
        listener.accept().await.unwrap();
        assert_eq!(counters.accepted(), expected);
    }
    assert_eq!(counters.shortages(), 0);
}

/// A connection accepted on one thread's runtime goes on on another's, with what arrived in
/// between.
#[test]
fn detached_stream_keeps_its_bytes_on_another_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (mut client, detached) = first.block_on(async {
        let (mut client, mut server) = pair(&ListenOptions::default(), Connect::default()).await;
        client
            .write_all(b"read here, left in the kernel")
            .await
            .unwrap();
        let mut head = [0; 9];
        server.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"read here");
        (client, server.detach().unwrap())
    });
    let client_addr = client.local_addr().unwrap();
    assert_eq!(detached.peer_addr(), client_addr);
    let second = std::thread::spawn(move || {
        runtime().block_on(async {
            let mut server = detached.attach().unwrap();
            assert_eq!(server.peer_addr(), client_addr);
            let mut rest = [0; 20];
            server.read_exact(&mut rest).await.unwrap();
            server.write_all(&rest).await.unwrap();
        });
    });
    let mut echoed = Vec::new();
    first.block_on(client.read_to_end(&mut echoed)).unwrap();
    second.join().unwrap();
    assert_eq!(echoed, b", left in the kernel");
}
