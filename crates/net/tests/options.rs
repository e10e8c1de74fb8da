//! Options read back from the sockets; Linux has all of them.
#![cfg(target_os = "linux")]

mod support;

use std::time::Duration;

use socket2::SockRef;
use whimbrel_net::{Connect, Keepalive, ListenOptions, StreamOptions, TcpListener, TcpStream};

use support::{loopback, pair};

#[tokio::test]
async fn both_ends_have_the_default_options() {
    let (client, server) = pair(&ListenOptions::default(), Connect::default()).await;
    assert_options(&client, &StreamOptions::default());
    assert_options(&server, &StreamOptions::default());
}

#[tokio::test]
async fn each_end_has_the_options_it_was_given() {
    let mut listen = ListenOptions::default();
    listen.stream = odd_options();
    let mut bare = StreamOptions::default();
    bare.keepalive = None;
    bare.user_timeout = None;
    let mut connect = Connect::default();
    connect.stream = bare;
    let (client, server) = pair(&listen, connect).await;
    assert_options(&server, &listen.stream);
    assert_options(&client, &bare);
}

#[tokio::test]
async fn reuse_port_lets_two_listeners_share_a_port() {
    let mut options = ListenOptions::default();
    options.reuse_port = true;
    let first = TcpListener::bind(loopback(), &options).unwrap();
    let second = TcpListener::bind(first.local_addr().unwrap(), &options).unwrap();
    assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
}

fn odd_options() -> StreamOptions {
    let mut options = StreamOptions::default();
    options.nodelay = false;
    options.keepalive = Some(Keepalive {
        idle: Duration::from_secs(71),
        interval: Duration::from_secs(13),
        count: 5,
    });
    options.user_timeout = Some(Duration::from_millis(136_001));
    options
}

fn assert_options(stream: &TcpStream, options: &StreamOptions) {
    let socket = SockRef::from(stream.as_ref());
    assert_eq!(socket.tcp_nodelay().unwrap(), options.nodelay);
    assert_eq!(socket.keepalive().unwrap(), options.keepalive.is_some());
    if let Some(keepalive) = options.keepalive {
        assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.idle);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), keepalive.count);
    }
    assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
}
