//! [`Link`]: a client and a server with memory between them.

use std::num::NonZeroU16;

use whimbrel_broker_core::session::codec::topic::TopicName;
use whimbrel_broker_core::session::codec::{
    Connect, FanOut, FanOutBuffer, Payload, ProtocolVersion, PublishProperties, PublishSource, QoS,
    ReasonCode,
};
use whimbrel_broker_core::session::{
    Accept, ClientConfig, ClientConnection, ClientEvent, Epoch, PublishOptions, ServerConfig,
    ServerConnection, ServerEvent, Tick,
};

/// Both roles of one connection, whose bytes go from one output to the other's input without a socket.
///
/// The server acknowledges at once what it receives.
#[derive(Debug)]
pub struct Link {
    client: ClientConnection<u32>,
    server: ServerConnection<u32>,
    buffer: FanOutBuffer,
    delivered: usize,
}

impl Link {
    /// A connection that has been accepted.
    ///
    /// # Panics
    /// When the two do not get on, which is a bug of theirs.
    pub fn connected(version: ProtocolVersion) -> Link {
        let mut config = ClientConfig::default();
        config.in_flight_max = NonZeroU16::new(WINDOW_MAX).expect("not 0");
        let mut link = Link {
            client: ClientConnection::new(Epoch(1), &config),
            server: ServerConnection::new(NOW, Epoch(1), ServerConfig::default()),
            buffer: FanOutBuffer::new(),
            delivered: 0,
        };
        let mut connect = Connect::new(version, "client");
        connect.keep_alive_secs = 60;
        let connected = link.client.connect(NOW, connect, None);
        connected.expect("the first CONNECT");
        link.run();
        assert!(link.client.is_connected(), "the server accepts");
        link
    }

    /// Publishes `count` messages of 64 bytes, at most `WINDOW_MAX` of them, lets both sides finish, and returns
    /// how many exchanges are over: all of QoS 1 and 2.
    ///
    /// # Panics
    /// When a message is refused, which is a bug.
    pub fn publish(&mut self, qos: QoS, count: usize) -> usize {
        self.delivered = 0;
        let source = PublishSource {
            topic: TopicName::new("site/12/345/state").expect("a valid name"),
            properties: PublishProperties::EMPTY,
            payload: Payload::Borrowed(&[b'x'; 64]),
            message_expiry_secs: None,
        };
        for _ in 0..count {
            let mut message = FanOut::new(source, &mut self.buffer);
            let options = PublishOptions { qos, retain: false };
            let published = self.client.publish(NOW, &mut message, options, 0);
            published.expect("there is room in the window");
        }
        self.run();
        self.delivered
    }

    /// Carries bytes until neither side has any.
    fn run(&mut self) {
        while self.carry_to_server() | self.carry_to_client() {}
    }

    fn carry_to_server(&mut self) -> bool {
        let Link { client, server, .. } = self;
        let output = client.output();
        let input = output.chunk();
        let mut done = 0;
        while done < input.len() {
            let handled = server.handle_input(NOW, &input[done..]);
            let handled = handled.expect("the client keeps to the protocol");
            match handled.event {
                Some(ServerEvent::Connect(_)) => {
                    let accepted = server.accept(NOW, Accept::new_session());
                    accepted.expect("a CONNECT waits");
                }
                Some(ServerEvent::Publish(publish)) => {
                    if let Some(token) = publish.token {
                        let acknowledged = server.ack(token, ReasonCode::Success);
                        acknowledged.expect("a token of this connection");
                    }
                }
                Some(ServerEvent::Release { token, .. }) => {
                    let acknowledged = server.ack(token, ReasonCode::Success);
                    acknowledged.expect("a token of this connection");
                }
                Some(_) | None => {}
            }
            assert!(handled.consumed > 0, "input is held or cut");
            done += handled.consumed;
        }
        output.advance(done);
        done > 0
    }

    fn carry_to_client(&mut self) -> bool {
        let Link {
            client,
            server,
            delivered,
            ..
        } = self;
        let output = server.output();
        let input = output.chunk();
        let mut done = 0;
        while done < input.len() {
            let handled = client.handle_input(NOW, &input[done..]);
            let handled = handled.expect("the server keeps to the protocol");
            match handled.event {
                Some(ClientEvent::Received { token, .. }) => {
                    let acknowledged = client.ack(NOW, token, ReasonCode::Success);
                    acknowledged.expect("a token of this connection");
                }
                Some(ClientEvent::Delivered { .. }) => *delivered += 1,
                Some(_) | None => {}
            }
            assert!(handled.consumed > 0, "input is held or cut");
            done += handled.consumed;
        }
        output.advance(done);
        done > 0
    }
}

/// What may be under way at a time.
const WINDOW_MAX: u16 = 1_000;
const NOW: Tick = Tick(1_000);
