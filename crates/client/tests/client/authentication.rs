//! Enhanced authentication.

use whimbrel_client::codec::bytes::Bytes;
use whimbrel_client::codec::{
    AckProperties, Auth, Authentication as Said, ConnAck, Packet, ReasonCode,
};
use whimbrel_client::{
    Authentication, Authenticator, Client, Closed, ConnectionError, ReauthenticateError,
};

use crate::support::{V5, connected, options};

/// Sends "1", answers "2" with "3", and wants to hear "4" at last.
struct Counting;

struct Count;

impl Authenticator for Counting {
    fn method(&self) -> &str {
        "COUNT"
    }

    fn begin(&self) -> Box<dyn Authentication> {
        Box::new(Count)
    }
}

impl Authentication for Count {
    fn first(&mut self) -> Result<Option<Bytes>, String> {
        Ok(Some(Bytes::from_static(b"1")))
    }

    fn answer(&mut self, data: Option<&[u8]>) -> Result<Option<Bytes>, String> {
        match data {
            Some(b"2") => Ok(Some(Bytes::from_static(b"3"))),
            other => Err(format!("{other:?} instead of 2")),
        }
    }

    fn finish(&mut self, data: Option<&[u8]>) -> Result<(), String> {
        match data {
            Some(b"4") => Ok(()),
            other => Err(format!("{other:?} instead of 4")),
        }
    }
}

fn said(data: &'static str) -> Said {
    Said {
        method: "COUNT".into(),
        data: Some(data.into()),
    }
}

fn auth(reason: ReasonCode, data: &'static str) -> Packet {
    Packet::Auth(Box::new(Auth {
        reason,
        authentication: said(data),
        properties: AckProperties::new(),
    }))
}

fn accepted(data: &'static str) -> Packet {
    let mut connack = ConnAck::new(ReasonCode::Success);
    connack.properties.authentication = Some(said(data));
    Packet::ConnAck(Box::new(connack))
}

#[tokio::test(start_paused = true)]
async fn the_steps_are_taken_and_can_be_taken_anew() {
    // [5:MQTT-4.12.0-3] [5:MQTT-4.12.1-1]
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.authenticator(Counting)).expect("valid options");
    let mut peer = listener.link().await;
    let connect = peer.expect_connect().await;
    assert_eq!(connect.properties.authentication, Some(said("1")));
    peer.write(auth(ReasonCode::ContinueAuthentication, "2"))
        .await;
    assert_eq!(
        peer.expect().await,
        auth(ReasonCode::ContinueAuthentication, "3")
    );
    peer.write(accepted("4")).await;
    client.connected().await.expect("accepted");
    let again = client.clone();
    let again = tokio::spawn(async move { again.reauthenticate().await });
    assert_eq!(peer.expect().await, auth(ReasonCode::ReAuthenticate, "1"));
    peer.write(auth(ReasonCode::ContinueAuthentication, "2"))
        .await;
    assert_eq!(
        peer.expect().await,
        auth(ReasonCode::ContinueAuthentication, "3")
    );
    peer.write(auth(ReasonCode::Success, "4")).await;
    again.await.expect("no panic").expect("accepted");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_prove_itself_is_left() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.authenticator(Counting)).expect("valid options");
    let mut peer = listener.link().await;
    peer.expect_connect().await;
    peer.write(accepted("5")).await;
    let closed = client.connected().await.expect_err("not the right server");
    assert!(
        matches!(closed, Closed::Failed(ConnectionError::Authentication(_))),
        "{closed}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_authenticator_there_is_no_new_authentication() {
    let (options, mut listener) = options(V5);
    let (client, _peer) = connected(options, &mut listener).await;
    let error = client.reauthenticate().await.expect_err("none");
    assert!(
        matches!(error, ReauthenticateError::NoAuthenticator),
        "{error}"
    );
}
