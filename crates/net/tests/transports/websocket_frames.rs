//! Laws of WebSocket framing: where frames and reads are cut means nothing to the bytes.

use std::{io::IoSlice, ops::Range};

use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::{
    servers::serve_one,
    websocket::{Messages, request},
};

/// What a server puts on the wire.
#[derive(Clone, Debug)]
enum Sent {
    /// A message in fragments, with a ping before each fragment that has one.
    Message(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Pong(Vec<u8>),
}

/// Unmasked frames (RFC 6455 §5.2); the lengths here need all three forms.
fn frame(first_byte: u8, payload: &[u8], wire: &mut Vec<u8>) {
    wire.push(first_byte);
    match payload.len() {
        length @ 0..=125 => wire.push(u8::try_from(length).unwrap()),
        length @ 126..=65_535 => {
            wire.push(126);
            wire.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            wire.push(127);
            wire.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    wire.extend(payload);
}

fn wire_and_bytes(sent: &[Sent]) -> (Vec<u8>, Vec<u8>) {
    let (mut wire, mut bytes) = (Vec::new(), Vec::new());
    for item in sent {
        match item {
            Sent::Pong(payload) => frame(0x8a, payload, &mut wire),
            Sent::Message(fragments) => {
                for (index, (fragment, ping)) in fragments.iter().enumerate() {
                    if let Some(ping) = ping {
                        frame(0x89, ping, &mut wire);
                    }
                    let opcode = if index == 0 { 0x02 } else { 0x00 };
                    let fin = if index + 1 == fragments.len() {
                        0x80
                    } else {
                        0x00
                    };
                    frame(fin | opcode, fragment, &mut wire);
                    bytes.extend(fragment);
                }
            }
        }
    }
    frame(0x88, &[], &mut wire);
    (wire, bytes)
}

/// Bytes that differ from their neighbours, made from a length and a beginning.
fn payload(lengths: Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    (lengths, any::<u8>()).prop_map(|(length, first)| {
        let next = |byte: &u8| Some(byte.wrapping_mul(5).wrapping_add(1));
        std::iter::successors(Some(first), next)
            .take(length)
            .collect()
    })
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let payload = prop_oneof![8 => payload(0..200), 1 => payload(126..70_000)];
    let control = || vec(any::<u8>(), 0..=125);
    let fragment = (payload, prop::option::weighted(0.2, control()));
    vec(
        prop_oneof![
            5 => vec(fragment, 1..5).prop_map(Sent::Message),
            1 => control().prop_map(Sent::Pong),
        ],
        0..8,
    )
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// [3:MQTT-6.0.0-2] [5:MQTT-6.0.0-2]
    #[test]
    fn reads_give_the_bytes_of_all_messages_however_they_are_cut(
        sent in sent(),
        cuts in vec(1_usize..3_000, 1..20),
        read_bytes in 1_usize..5_000,
    ) {
        let (wire, expected) = wire_and_bytes(&sent);
        let received = run(async {
            let server = serve_one(async move |tcp: TcpStream| {
                let mut tcp = Messages::accept(tcp).await.0.into_inner();
                tcp.set_nodelay(true).unwrap();
                let mut rest = wire.as_slice();
                for cut in cuts.iter().cycle() {
                    let (piece, after) = rest.split_at(rest.len().min(*cut));
                    tcp.write_all(piece).await.unwrap();
                    // The client reads what is there before the next piece comes.
                    tokio::task::yield_now().await;
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                // Pongs, and the answer to the close frame: then the client has all of it.
                tcp.read_to_end(&mut Vec::new()).await.unwrap();
            })
            .await;
            let mut stream = server.connect_websocket(request()).await.unwrap();
            let mut received = Vec::new();
            let mut buffer = vec![0; read_bytes];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => received.extend_from_slice(&buffer[..count]),
                }
            }
            drop(stream);
            server.end().await;
            received
        });
        prop_assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    }

    #[test]
    fn writes_arrive_as_binary_frames_with_the_same_bytes(
        writes in vec(vec(payload(0..40_000), 1..4), 0..8),
    ) {
        let expected: Vec<u8> = writes.iter().flatten().flatten().copied().collect();
        let received = run(async {
            let server = serve_one(async |tcp: TcpStream| {
                let mut messages = Messages::accept(tcp).await;
                let mut received = Vec::new();
                while let Some(message) = messages.receive().await {
                    match message {
                        Message::Binary(bytes) => received.push(bytes),
                        Message::Close(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
                received
            })
            .await;
            let mut stream = server.connect_websocket(request()).await.unwrap();
            for slices in &writes {
                let mut slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
                let mut left = slices.as_mut_slice();
                while left.iter().any(|slice| !slice.is_empty()) {
                    let count = stream.write_vectored(left).await.unwrap();
                    IoSlice::advance_slices(&mut left, count);
                }
            }
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            server.end().await
        });
        prop_assert!(received.iter().all(|frame: &Bytes| !frame.is_empty()));
        prop_assert!(received.concat() == expected);
    }
}
