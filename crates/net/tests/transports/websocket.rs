//! WebSocket that works.

use std::{future::poll_fn, io::IoSlice, pin::Pin, task::Poll};

use futures_core::Stream as _;
use futures_sink::Sink;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Bytes, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::HeaderValue,
    },
};
use whimbrel_net::{
    Connect, ConnectError, Stream, TlsConfig, Transport, WebSocketRequest,
    WebSocketStream as ClientStream,
};

use crate::{
    certificates::{Authority, Holder},
    servers::{Server, TlsServer, assert_echo, serve_one},
};

/// The server's end of a WebSocket connection, message by message.
pub(crate) struct Messages<S>(pub(crate) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Messages<S> {
    /// The server's half of the handshake, which chooses the first subprotocol offered.
    pub(crate) async fn accept(stream: S) -> Self {
        Self(accept_hdr_async(stream, choose_first).await.unwrap())
    }

    /// The next message; `None` once the connection is over.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        let message = poll_fn(|context| Pin::new(&mut self.0).poll_next(context)).await?;
        message.ok()
    }

    pub(crate) async fn send(&mut self, message: Message) {
        let mut message = Some(message);
        poll_fn(|context| {
            let mut sink = Pin::new(&mut self.0);
            if let Some(message) = message.take() {
                sink.as_mut().start_send(message).unwrap();
            }
            sink.poll_flush(context)
        })
        .await
        .unwrap();
    }

    /// Sends binary messages back until the client's close frame, which the library answers.
    pub(crate) async fn echo(mut self) {
        while let Some(message) = self.receive().await {
            if message.is_binary() {
                self.send(message).await;
            }
        }
    }
}

#[expect(clippy::result_large_err, reason = "the library's own type")]
fn choose_first(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if let Some(offered) = request.headers().get("sec-websocket-protocol") {
        let first = offered.to_str().unwrap().split(',').next().unwrap();
        let first = HeaderValue::from_str(first).unwrap();
        response
            .headers_mut()
            .insert("sec-websocket-protocol", first);
    }
    Ok(response)
}

pub(crate) fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

pub(crate) fn request() -> WebSocketRequest {
    WebSocketRequest::new("/mqtt").unwrap()
}

impl<T> Server<T> {
    pub(crate) async fn connect_websocket(
        &self,
        request: WebSocketRequest,
    ) -> Result<Stream, ConnectError> {
        let address = self.address();
        Connect::default()
            .connect(&Transport::WebSocket { address, request })
            .await
    }

    pub(crate) async fn connect_secure_websocket(
        &self,
        tls: TlsConfig,
    ) -> Result<Stream, ConnectError> {
        Connect::default()
            .connect(&Transport::SecureWebSocket {
                address: self.address(),
                tls,
                request: request(),
            })
            .await
    }
}

pub(crate) async fn echo() -> Server<()> {
    serve_one(async |tcp: TcpStream| Messages::accept(tcp).await.echo().await).await
}

pub(crate) fn websocket(stream: &Stream) -> &ClientStream {
    match stream {
        Stream::WebSocket(stream) => stream,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_travel_both_ways_in_tiny_reads() {
    let server = echo().await;
    let stream = server.connect_websocket(request()).await.unwrap();
    assert_echo(stream, 1_000_000, 7).await;
    server.end().await;
}

#[tokio::test]
async fn bytes_travel_both_ways_over_tls() {
    let authority = Authority::new("CA");
    let server = TlsServer::default()
        .serve(
            &authority.issue(Holder::Server(&["127.0.0.1"])),
            async |accepted| Messages::accept(accepted.unwrap()).await.echo().await,
        )
        .await;
    let tls = authority.trusted().build().unwrap();
    let stream = server.connect_secure_websocket(tls).await.unwrap();
    assert!(stream.tls().is_some() && stream.tcp().is_some());
    assert_echo(stream, 1_000_000, 1_000).await;
    server.end().await;
}

#[tokio::test]
async fn server_sees_path_headers_and_host() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut seen = Vec::new();
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let look = |request: &Request, response: Response| {
            seen.push(request.uri().to_string());
            for name in ["authorization", "host", "cookie"] {
                for value in request.headers().get_all(name) {
                    seen.push(value.to_str().unwrap().to_owned());
                }
            }
            Ok::<_, ErrorResponse>(response)
        };
        accept_hdr_async(tcp, look).await.unwrap();
        seen
    })
    .await;
    let request = WebSocketRequest::new("/mqtt?tenant=7")
        .unwrap()
        .header("authorization", "Bearer 1234")
        .and_then(|request| request.header("cookie", "a=1"))
        .and_then(|request| request.header("cookie", "b=2"))
        .unwrap();
    let _stream = server.connect_websocket(request).await.unwrap();
    let host = format!("127.0.0.1:{}", server.port);
    assert_eq!(
        server.end().await,
        ["/mqtt?tenant=7", "Bearer 1234", host.as_str(), "a=1", "b=2"]
    );
}

#[tokio::test]
async fn subprotocol_is_the_one_that_the_server_chose() {
    let server = echo().await;
    let offers = request().subprotocol("mqtt").unwrap();
    let offers = offers.subprotocol("mqttv3.1").unwrap();
    let stream = server.connect_websocket(offers).await.unwrap();
    assert_eq!(websocket(&stream).subprotocol(), Some("mqtt"));

    let server = echo().await;
    let stream = server.connect_websocket(request()).await.unwrap();
    assert_eq!(websocket(&stream).subprotocol(), None);
}

/// [3:MQTT-6.0.0-1] [5:MQTT-6.0.0-1]
#[tokio::test]
async fn each_write_is_one_binary_frame() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        let mut received = Vec::new();
        while let Some(Message::Binary(bytes)) = messages.receive().await {
            received.push(bytes);
        }
        received
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    assert!(stream.is_write_vectored());
    assert_eq!(stream.write(b"one").await.unwrap(), 3);
    let slices = [b"t".as_slice(), b"", b"wo"].map(IoSlice::new);
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 3);
    assert_eq!(stream.write(b"").await.unwrap(), 0);
    let long = vec![3; 100_000];
    assert_eq!(stream.write(&long).await.unwrap(), 65_536);
    let slices = [&long[..65_000], &long[..65_000]].map(IoSlice::new);
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 65_536);
    stream.shutdown().await.unwrap();
    let frames = server.end().await;
    assert_eq!(frames[..2], [&b"one"[..], b"two"]);
    let lengths: Vec<usize> = frames.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [3, 3, 65_536, 65_536]);
}

#[tokio::test]
async fn read_into_no_room_waits_for_nothing() {
    let server = echo().await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    assert_eq!(stream.read(&mut []).await.unwrap(), 0);
}

/// As over TCP, a write needs no flush to leave while the socket has room.
#[tokio::test]
async fn write_leaves_at_once() {
    let server =
        serve_one(async |tcp: TcpStream| Messages::accept(tcp).await.receive().await).await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(server.end().await, Some(binary(b"hello")));
}

#[tokio::test]
async fn pings_are_answered_while_the_stream_is_read() {
    const PINGS: usize = 1_000;
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        for _ in 1..PINGS {
            messages
                .send(Message::Ping(Bytes::from_static(b"there?")))
                .await;
        }
        messages
            .send(Message::Ping(Bytes::from_static(b"last")))
            .await;
        messages.send(binary(b"")).await;
        messages.send(binary(b"!")).await;
        // The library may skip answers to pings that a later one follows (RFC 6455 §5.5.3).
        while let Some(message) = messages.receive().await {
            if message == Message::Pong(Bytes::from_static(b"last")) {
                return true;
            }
        }
        false
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'!');
    // The answer to the last ping leaves with the read that follows it.
    let rest = tokio::spawn(async move { stream.read_u8().await });
    assert!(server.end().await);
    rest.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn shutdown_says_goodbye_and_reads_go_on_to_the_servers() {
    let server = serve_one(async |tcp: TcpStream| {
        let mut messages = Messages::accept(tcp).await;
        assert_eq!(messages.receive().await, Some(binary(b"bye")));
        // On its way before the client's close frame is read and answered.
        messages.send(binary(b"one more")).await;
        assert_eq!(messages.receive().await, Some(Message::Close(None)));
        assert_eq!(messages.receive().await, None);
    })
    .await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"one more");
    server.end().await;
}

/// What a server that does not read costs is bounded, whatever is written to it.
#[tokio::test]
async fn server_that_does_not_read_stops_the_writes() {
    let server = serve_one(async |tcp: TcpStream| Messages::accept(tcp).await).await;
    let mut stream = server.connect_websocket(request()).await.unwrap();
    let _silent = server.end().await;
    let bytes = vec![0; 1_000_000];
    let taken = poll_fn(|context| {
        let mut taken = 0;
        // The sockets' buffers of loopback are a few megabytes at most.
        while taken < 100_000_000 {
            match Pin::new(&mut stream).poll_write(context, &bytes) {
                Poll::Ready(count) => taken += count.unwrap(),
                Poll::Pending => break,
            }
        }
        Poll::Ready(taken)
    })
    .await;
    assert!((1..100_000_000).contains(&taken), "{taken}");
}

/// A client whose buffer is full of answers to pings, since its server reads none of them, and a
/// way to let the server read: it comes to the first message that is no pong.
async fn flooded() -> (Stream, Server<Message>, oneshot::Sender<()>) {
    // With a small buffer at the server, this is twice what the sockets hold.
    const PINGS: usize = 80_000;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (read_on, may_read) = oneshot::channel();
    let task = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut messages = Messages::accept(tcp).await;
        let mut ping = vec![0x89, 125];
        ping.resize(127, 7);
        let tcp = messages.0.get_mut();
        tcp.write_all(&ping.repeat(PINGS)).await.unwrap();
        // Pings without payload fill what is left, down to less than any frame takes.
        tcp.write_all(&[0x89, 0].repeat(40)).await.unwrap();
        tcp.write_all(&[0x82, 1, b'!']).await.unwrap();
        may_read.await.unwrap();
        loop {
            match messages.receive().await.unwrap() {
                Message::Pong(_) => {}
                message => return message,
            }
        }
    });
    let server = Server { port, task };
    let mut stream = server.connect_websocket(request()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'!');
    (stream, server, read_on)
}

#[tokio::test]
async fn write_waits_behind_the_answers_to_a_flood_of_pings() {
    let (mut stream, server, read_on) = flooded().await;
    let bytes = vec![1; 65_536];
    poll_fn(|context| {
        let poll = Pin::new(&mut stream).poll_write(context, &bytes);
        assert!(poll.is_pending(), "{poll:?}");
        Poll::Ready(())
    })
    .await;
    read_on.send(()).unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(server.end().await, binary(&bytes));
}

#[tokio::test]
async fn shutdown_waits_behind_the_answers_to_a_flood_of_pings() {
    let (mut stream, server, read_on) = flooded().await;
    poll_fn(|context| {
        let poll = Pin::new(&mut stream).poll_shutdown(context);
        assert!(poll.is_pending(), "{poll:?}");
        Poll::Ready(())
    })
    .await;
    read_on.send(()).unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(server.end().await, Message::Close(None));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn socket_options_hold_under_websocket() {
    let server = echo().await;
    let mut connect = Connect::default();
    connect.stream.user_timeout = Some(std::time::Duration::from_secs(78));
    let transport = Transport::WebSocket {
        address: server.address(),
        request: request(),
    };
    let stream = connect.connect(&transport).await.unwrap();
    crate::servers::assert_options(&stream, &connect.stream);
}
