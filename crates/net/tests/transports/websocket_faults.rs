//! WebSocket that fails: each cause has its own fault, and says what to do.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use whimbrel_net::{
    Connect, ConnectError, Stream, TlsFault, Transport, WebSocketError, WebSocketFault,
};

use crate::{
    certificates::{Authority, Holder},
    servers::{Server, TlsServer, serve_one},
    tls_faults,
    websocket::{Messages, binary, request, websocket},
};

fn fault_of(result: Result<Stream, ConnectError>) -> WebSocketFault {
    match result {
        Err(ConnectError::WebSocket { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

fn fault_in(error: &io::Error) -> WebSocketFault {
    let error: &WebSocketError = error.get_ref().unwrap().downcast_ref().unwrap();
    error.fault()
}

/// Reads the request whole, then sends `answer` and ends.
async fn answering(answer: &'static str) -> Server<()> {
    serve_one(async move |mut tcp: TcpStream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(tcp.read_u8().await.unwrap());
        }
        tcp.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn answers_that_are_no_handshake_are_told_apart() {
    for (answer, fault) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            WebSocketFault::Status(404),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            WebSocketFault::Status(200),
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            WebSocketFault::NotWebSocket,
        ),
        (
            // The right answer to another key.
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            WebSocketFault::NotWebSocket,
        ),
        ("\u{20}\u{2}\0\0 and more", WebSocketFault::NotHttp),
        ("", WebSocketFault::EndedInHandshake),
    ] {
        let server = answering(answer).await;
        let result = server.connect_websocket(request()).await;
        assert_eq!(fault_of(result), fault, "{answer:?}");
    }
}

/// A server of MQTT has to choose "mqtt"; a client that asked for it goes no further without.
#[tokio::test]
async fn server_that_chooses_no_subprotocol_is_left() {
    let server = serve_one(async |tcp: TcpStream| {
        tokio_tungstenite::accept_async(tcp).await.unwrap();
    })
    .await;
    let offer = request().subprotocol("mqtt").unwrap();
    let fault = fault_of(server.connect_websocket(offer).await);
    assert_eq!(fault, WebSocketFault::Subprotocol);
}

/// [3:MQTT-6.0.0-1] [5:MQTT-6.0.0-1]
#[tokio::test]
async fn text_frame_is_an_error_and_closes_the_connection() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        messages.send(binary(b"a")).await;
        messages.send(Message::Text("b".into())).await;
        messages.send(binary(b"c")).await;
        messages.receive().await
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    // What follows the text is not read either.
    for _ in 0..2 {
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fault_in(&error), WebSocketFault::TextFrame);
    }
    match server.end().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Unsupported),
        other => panic!("{other:?}"),
    }
    let error = stream.write_all(b"d").await.unwrap_err();
    assert_eq!(fault_in(&error), WebSocketFault::Closed);
}

#[tokio::test]
async fn message_at_the_limit_is_read_and_one_byte_more_ends_the_connection() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        messages.send(binary(&[1; 1_000])).await;
        messages.send(binary(&[2; 1_001])).await;
        messages.receive().await
    })
    .await;
    let limited = request().message_bytes_max(1_000);
    let mut stream = server.connect_websocket(limited).await.unwrap();
    stream.read_exact(&mut [0; 1_000]).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(fault_in(&error), WebSocketFault::MessageTooLong);
    match server.end().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Size),
        other => panic!("{other:?}"),
    }
}

/// What is claimed is enough: nothing is set aside for it, and nothing of it waited for.
#[tokio::test]
async fn frame_beyond_the_limit_is_refused_by_its_header() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        let tcp = messages.0.get_mut();
        tcp.write_all(&[0x82, 126, 0x03, 0xe9]).await.unwrap();
        messages.receive().await
    })
    .await;
    let limited = request().message_bytes_max(1_000);
    let mut stream = server.connect_websocket(limited).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(fault_in(&error), WebSocketFault::MessageTooLong);
    assert!(matches!(server.end().await, Some(Message::Close(_))));
}

#[tokio::test]
async fn fragments_are_bounded_together() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut tcp = Messages::accept(tcp).await.0.into_inner();
        // Binary and not final, then continuations of 100 bytes without an end.
        tcp.write_all(&[0x02, 0]).await.unwrap();
        let mut continuation = vec![0x00, 100];
        continuation.resize(102, 7);
        while tcp.write_all(&continuation).await.is_ok() {}
    })
    .await;
    let limited = request().message_bytes_max(1_000);
    let mut stream = server.connect_websocket(limited).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(fault_in(&error), WebSocketFault::MessageTooLong);
    drop(stream);
    server.end().await;
}

#[tokio::test]
async fn servers_goodbye_is_the_end_of_the_stream_with_its_code() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        messages.send(binary(b"a")).await;
        let reason = "going for maintenance".into();
        let code = CloseCode::Away;
        messages
            .send(Message::Close(Some(CloseFrame { code, reason })))
            .await;
        // The client's answer; only then the connection ends.
        messages.receive().await
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"a");
    assert_eq!(websocket(&stream).close_code(), Some(1001));
    match server.end().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let error = stream.write_all(b"b").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(fault_in(&error), WebSocketFault::Closed);
}

#[tokio::test]
async fn end_without_a_goodbye_is_an_error_after_the_bytes_that_came() {
    let server = serve_one(async |tcp: TcpStream| {
        Messages::accept(tcp).await.send(binary(b"a")).await;
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(fault_in(&error), WebSocketFault::Truncated);
}

/// Once we have said goodbye, a server that just goes has missed nothing.
#[tokio::test]
async fn end_after_our_goodbye_is_the_end_of_the_stream() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut tcp = Messages::accept(tcp).await.0.into_inner();
        // Close frames of clients have no payload here: two bytes and the mask.
        tcp.read_exact(&mut [0; 6]).await.unwrap();
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    server.end().await;
}

#[tokio::test]
async fn frames_against_the_rules_end_the_connection() {
    for frame in [
        // Reserved bits, an unknown opcode, a masked frame, a continuation of nothing, a ping in fragments.
        [0xf2, 0, 0, 0, 0, 0].as_slice(),
        &[0x83, 0],
        &[0x82, 0x81, 1, 2, 3, 4, 5],
        &[0x80, 0],
        &[0x09, 0],
    ] {
        let server = serve_one(async move |tcp: TcpStream| {
            let mut tcp = Messages::accept(tcp).await.0.into_inner();
            tcp.write_all(frame).await.unwrap();
            // Whatever the client says, so that ending does not reset the connection.
            let _ = tcp.read(&mut [0; 100]).await;
        })
        .await;
        let mut stream = server.connect_websocket(request()).await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fault_in(&error), WebSocketFault::Protocol, "{frame:?}");
    }
}

/// The TLS layer knows why: in TLS 1.3 it is told only when WebSocket waits for its answer.
#[tokio::test]
async fn demand_for_a_client_certificate_is_told_as_such() {
    let authority = Authority::new("CA");
    let server = TlsServer {
        clients_of: Some(&authority),
        ..TlsServer::default()
    };
    let server = server
        .echo(&authority.issue(Holder::Server(&["127.0.0.1"])))
        .await;
    let tls = authority.trusted().build().unwrap();
    let fault = tls_faults::fault_of(server.connect_secure_websocket(tls).await);
    assert_eq!(fault, TlsFault::ClientCertificateRequired);
}

#[tokio::test]
async fn message_says_what_to_do() {
    let server = answering("HTTP/1.1 404 Not Found\r\n\r\n").await;
    let error = server.connect_websocket(request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no WebSocket connection to tcp://127.0.0.1:{}: the server answers with HTTP status 404, check the path, \
             and the headers if it wants some",
            server.port
        )
    );
    let transport = Transport::WebSocket {
        address: "tcp://127.0.0.1:1".parse().unwrap(),
        request: request(),
    };
    let error = Connect::default().connect(&transport).await;
    assert!(
        matches!(error, Err(ConnectError::Connect { .. })),
        "{error:?}"
    );
}
