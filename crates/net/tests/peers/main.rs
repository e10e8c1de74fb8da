//! Debian's mosquitto at the other end of every transport, with MQTT packets made by hand: its TLS
//! is OpenSSL's and its WebSocket that of libwebsockets, so nothing here is our libraries' own idea.
//!
//! Without mosquitto these tests fail and say how to install it.
#![cfg(unix)]

#[path = "../transports/certificates.rs"]
mod certificates;
mod mosquitto;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use whimbrel_net::{
    Connect, ConnectError, Stream, TlsError, TlsFault, Transport, WebSocketFault, WebSocketRequest,
};

use certificates::{Authority, Holder};
use mosquitto::Mosquitto;

/// What mosquitto is asked for at its WebSocket listeners.
fn request() -> WebSocketRequest {
    let request = WebSocketRequest::new("/mqtt").unwrap();
    request.subprotocol("mqtt").unwrap()
}

async fn connect(transport: Transport) -> Result<Stream, ConnectError> {
    Connect::default().connect(&transport).await
}

/// Connects as MQTT has it, subscribes, gets a long message back, pings and says goodbye.
async fn assert_serves(transport: Transport) {
    const TOPIC: &[u8] = b"a topic";
    let length = match transport {
        // This mosquitto takes a tenth of a second for each 4 KiB of WebSocket.
        Transport::WebSocket { .. } | Transport::SecureWebSocket { .. } => 20_000,
        _ => 300_000,
    };
    let shown = format!("{transport:?}");
    let mut stream = connect(transport).await.expect(&shown);

    // CONNECT of MQTT 3.1.1: clean session, keep alive 60 s, no client identifier.
    let connect = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0];
    stream.write_all(&connect).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(receive(&mut stream).await, (0x20, vec![0, 0]), "{shown}");

    // SUBSCRIBE with packet identifier 1 and QoS 0.
    let mut subscribe = vec![0, 1];
    string(TOPIC, &mut subscribe);
    subscribe.push(0);
    send(&mut stream, 0x82, &subscribe).await;
    assert_eq!(receive(&mut stream).await, (0x90, vec![0, 1, 0]), "{shown}");

    // PUBLISH with QoS 0, longer than a TLS record.
    let mut publish = Vec::new();
    string(TOPIC, &mut publish);
    publish.extend((0..length).map(|index: u32| (index % 251) as u8));
    send(&mut stream, 0x30, &publish).await;
    let (first_byte, body) = receive(&mut stream).await;
    assert_eq!(first_byte, 0x30, "{shown}");
    assert!(body == publish, "{shown}: {} bytes", body.len());

    send(&mut stream, 0xc0, &[]).await;
    assert_eq!(receive(&mut stream).await, (0xd0, vec![]), "{shown}");

    // DISCONNECT, upon which the broker ends the connection in its own way.
    send(&mut stream, 0xe0, &[]).await;
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{shown}");
}

async fn send(stream: &mut Stream, first_byte: u8, body: &[u8]) {
    let mut packet = vec![first_byte];
    let mut length = body.len();
    while length > 127 {
        packet.push(u8::try_from(length % 128).unwrap() | 0x80);
        length /= 128;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend(body);
    stream.write_all(&packet).await.unwrap();
    stream.flush().await.unwrap();
}

/// The next packet: its first byte, and what follows the length.
async fn receive(stream: &mut Stream) -> (u8, Vec<u8>) {
    let first_byte = stream.read_u8().await.unwrap();
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.unwrap();
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (first_byte, body)
}

fn string(bytes: &[u8], body: &mut Vec<u8>) {
    body.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    body.extend(bytes);
}

#[tokio::test]
async fn mosquitto_serves_over_every_transport() {
    let mosquitto = Mosquitto::start();
    let tls = || mosquitto.authority.trusted();
    assert_serves(Transport::Tcp(mosquitto.tcp.clone())).await;
    assert_serves(Transport::Unix(mosquitto.unix_socket())).await;
    assert_serves(Transport::Tls {
        address: mosquitto.tls.clone(),
        tls: tls().alpn(["mqtt"]).build().unwrap(),
    })
    .await;
    assert_serves(Transport::Tls {
        address: format!("tcp://localhost:{}", mosquitto.tls.port())
            .parse()
            .unwrap(),
        tls: tls().build().unwrap(),
    })
    .await;
    let device = mosquitto.authority.issue(Holder::Client("device 7"));
    assert_serves(Transport::Tls {
        address: mosquitto.mutual_tls.clone(),
        tls: device.shown_by(tls()).build().unwrap(),
    })
    .await;
    assert_serves(Transport::WebSocket {
        address: mosquitto.websocket.clone(),
        request: request(),
    })
    .await;
    assert_serves(Transport::SecureWebSocket {
        address: mosquitto.secure_websocket.clone(),
        tls: tls().build().unwrap(),
        request: request(),
    })
    .await;
}

/// The first read after a TLS 1.3 handshake, in which OpenSSL says what it thinks of the client.
async fn fault_of_first_read(transport: Transport) -> TlsFault {
    let mut stream = connect(transport).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    let error: &TlsError = error.get_ref().unwrap().downcast_ref().unwrap();
    error.fault()
}

#[tokio::test]
async fn what_is_wrong_with_the_client_certificate_is_told() {
    let mosquitto = Mosquitto::start();
    let tls = || mosquitto.authority.trusted();
    let at = |tls: whimbrel_net::TlsOptions| Transport::Tls {
        address: mosquitto.mutual_tls.clone(),
        tls: tls.build().unwrap(),
    };
    let fault = fault_of_first_read(at(tls())).await;
    assert_eq!(fault, TlsFault::ClientCertificateRequired);
    let stranger = Authority::new("another CA").issue(Holder::Client("device 7"));
    let fault = fault_of_first_read(at(stranger.shown_by(tls()))).await;
    assert_eq!(fault, TlsFault::ClientCertificateRefused);
}

#[tokio::test]
async fn listener_for_another_transport_is_told() {
    let mosquitto = Mosquitto::start();
    let tls = || mosquitto.authority.trusted().build().unwrap();
    for address in [&mosquitto.tcp, &mosquitto.websocket] {
        let error = connect(Transport::Tls {
            address: address.clone(),
            tls: tls(),
        })
        .await
        .unwrap_err();
        assert!(
            matches!(
                error,
                ConnectError::Tls {
                    fault: TlsFault::NotTls | TlsFault::EndedInHandshake,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    for address in [&mosquitto.tcp, &mosquitto.tls] {
        let error = connect(Transport::WebSocket {
            address: address.clone(),
            request: request(),
        })
        .await
        .unwrap_err();
        assert!(
            matches!(
                error,
                ConnectError::WebSocket {
                    fault: WebSocketFault::NotHttp | WebSocketFault::EndedInHandshake,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let stranger = connect(Transport::SecureWebSocket {
        address: mosquitto.secure_websocket.clone(),
        tls: Authority::new("another CA").trusted().build().unwrap(),
        request: request(),
    });
    let error = stranger.await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Tls {
                fault: TlsFault::UnknownIssuer,
                ..
            }
        ),
        "{error:?}"
    );
}
