//! CONNECT and its answer.

use std::time::Duration;

use whimbrel_client::codec::topic::ByteStr;
use whimbrel_client::codec::{ConnAck, Packet, ReasonCode};
use whimbrel_client::{
    Client, Closed, ConnectionError, ConnectionState, Options, OptionsError, PublishError,
    Reconnect,
};

use crate::support::{V5, V311, connected, options};

fn refusal(reason: ReasonCode) -> Packet {
    Packet::ConnAck(Box::new(ConnAck::new(reason)))
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_closes_the_client_with_the_servers_words() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.username("u").password("wrong")).expect("valid options");
    let mut connack = ConnAck::new(ReasonCode::BadUserNameOrPassword);
    connack.properties.reason_string = Some(ByteStr::from("ask Ada"));
    let mut peer = listener.link().await;
    let connect = peer.expect_connect().await;
    assert_eq!(connect.password.as_deref(), Some(&b"wrong"[..]));
    peer.write(Packet::ConnAck(Box::new(connack))).await;
    let closed = client.connected().await.expect_err("refused");
    let text = "server refused the connection: 0x86 BadUserNameOrPassword (ask Ada)";
    assert_eq!(closed.to_string(), text);
    let published = client.publish("a", "b").await;
    assert!(matches!(
        published,
        Err(PublishError::Closed(Closed::Failed(_)))
    ));
    listener.stays_quiet(Duration::from_secs(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_again() {
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let client = Client::spawn(options).expect("valid options");
        let mut peer = listener.link().await;
        peer.expect_connect().await;
        peer.write(refusal(ReasonCode::ServerUnavailable)).await;
        let mut peer = listener.link().await;
        let state = client.state().borrow().clone();
        assert!(
            matches!(state, ConnectionState::Connecting { failures: 1 }),
            "{state:?}"
        );
        peer.accept(false).await;
        client.connected().await.expect("accepted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    // [U5-035]
    let (options, mut listener) = options(V5);
    let client =
        Client::spawn(options.connect_timeout(Duration::from_secs(3))).expect("valid options");
    let mut state = client.state();
    let _silent = listener.link().await;
    let timed_out = |state: &ConnectionState| {
        matches!(
            state,
            ConnectionState::Waiting {
                error: ConnectionError::TimedOut(_),
                ..
            }
        )
    };
    state.wait_for(timed_out).await.expect("a driver");
}

#[tokio::test(start_paused = true)]
async fn attempts_end_where_they_are_told_to() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.reconnect(Reconnect::never())).expect("valid options");
    drop(listener.link().await);
    let closed = client.connected().await.expect_err("only one attempt");
    assert!(
        matches!(closed, Closed::Failed(ConnectionError::Closed)),
        "{closed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_assigned_client_id_is_kept_for_the_next_connection() {
    // [5:MQTT-3.1.3-6]
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.client_id("")).expect("valid options");
    let mut peer = listener.link().await;
    assert_eq!(peer.expect_connect().await.client_id, "");
    let mut connack = ConnAck::new(ReasonCode::Success);
    connack.properties.assigned_client_id = Some(ByteStr::from("assigned"));
    peer.write(Packet::ConnAck(Box::new(connack))).await;
    let established = client.connected().await.expect("accepted");
    assert_eq!(
        established.assigned_client_id().map(ByteStr::as_str),
        Some("assigned")
    );
    drop(peer);
    let connect = listener.link().await.expect_connect().await;
    assert_eq!(connect.client_id, "assigned");
    assert!(!connect.clean_start);
}

#[tokio::test(start_paused = true)]
async fn a_password_can_be_made_anew_for_each_attempt() {
    let (options, mut listener) = options(V5);
    let count = std::sync::atomic::AtomicU8::new(b'0');
    let password = move || vec![count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)].into();
    let client =
        Client::spawn(options.username("u").password_from(password)).expect("valid options");
    for password in [b"0", b"1"] {
        let mut peer = listener.link().await;
        assert_eq!(
            peer.accept(false).await.password.as_deref(),
            Some(&password[..])
        );
        client.connected().await.expect("accepted");
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_sent_and_a_silent_server_is_left() {
    // [3:MQTT-3.1.2-23] [5:MQTT-3.1.2-20] [U5-017]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let options = options
            .keep_alive_secs(30)
            .ping_timeout(Duration::from_secs(5));
        let (client, mut peer) = connected(options, &mut listener).await;
        assert_eq!(peer.expect().await, Packet::PingReq);
        peer.write(Packet::PingResp).await;
        assert_eq!(peer.expect().await, Packet::PingReq);
        let mut state = client.state();
        let waiting = |state: &ConnectionState| matches!(state, ConnectionState::Waiting { .. });
        let state = state.wait_for(waiting).await.expect("a driver").clone();
        let ConnectionState::Waiting { error, .. } = state else {
            unreachable!("waited for");
        };
        let text = "server did not answer PINGREQ in time, the link is taken for dead";
        assert_eq!(error.to_string(), text);
        listener.link().await.expect_connect().await;
    }
}

#[test]
fn what_3_1_1_can_not_carry_is_refused() {
    let plain = || Options::new("h", 1).version(V311).client_id("c");
    assert!(matches!(
        plain().session_expiry_secs(1).check(),
        Err(OptionsError::NotInThisVersion {
            option: "a session expiry"
        })
    ));
    assert!(matches!(
        plain().password("p").check(),
        Err(OptionsError::PasswordAlone)
    ));
    assert!(matches!(
        plain().client_id("").clean_start(false).check(),
        Err(OptionsError::ClientIdMissing)
    ));
    assert!(matches!(
        plain().client_id("\0").check(),
        Err(OptionsError::Encode { .. })
    ));
    assert!(matches!(
        Options::new("no host", 1).check(),
        Err(OptionsError::Address(_))
    ));
    plain().check().expect("nothing is wrong");
}
