//! A proxy that does one thing wrong to what the broker publishes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use whimbrel_load::codec::{FrameHeader, Limits, PacketType, ProtocolVersion};

/// What is done to the tenth PUBLISH of the broker, of all connections together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Drop,
    Duplicate,
    /// It goes out after the next one of its connection.
    Swap,
    /// One bit of its last byte is flipped.
    Flip,
    /// The first letter of its topic is another one.
    Misroute,
    /// Its connection is closed.
    Close,
    /// From it on, nothing goes out, and the connection stays open.
    Hang,
}

/// Stands before a broker. Its threads end with the connections.
pub(crate) fn proxy(broker: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let Ok(server) = TcpStream::connect(broker) else {
                return;
            };
            for stream in [&client, &server] {
                stream.set_nodelay(true).expect("a socket");
            }
            let mut upward = (
                client.try_clone().expect("a socket"),
                server.try_clone().expect("a socket"),
            );
            thread::spawn(move || {
                // Either side may go at any time.
                let _ = io::copy(&mut upward.0, &mut upward.1);
                let _ = upward.1.shutdown(Shutdown::Both);
            });
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let _ = downward(&server, &client, fault, &count);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// From the broker to the client, packet by packet.
fn downward(
    mut from: &TcpStream,
    mut to: &TcpStream,
    fault: Fault,
    count: &AtomicU32,
) -> io::Result<()> {
    let mut input = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut kept = None;
    let mut is_hanging = false;
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..length]);
        let mut output = Vec::new();
        while let Some(length) = packet_length(&input) {
            let mut packet: Vec<u8> = input.drain(..length).collect();
            let is_publish = packet[0] >> 4 == PacketType::Publish as u8;
            let is_tenth = is_publish && count.fetch_add(1, SeqCst) == 9;
            match fault {
                Fault::Drop if is_tenth => continue,
                Fault::Duplicate if is_tenth => output.extend_from_slice(&packet),
                Fault::Swap if is_tenth => {
                    kept = Some(packet);
                    continue;
                }
                Fault::Flip if is_tenth => *packet.last_mut().expect("not empty") ^= 4,
                Fault::Misroute if is_tenth => {
                    // Behind the fixed header and the length of the topic.
                    let place = length - packet_body(&packet) + 2;
                    packet[place] ^= 1;
                }
                Fault::Close if is_tenth => return Ok(()),
                Fault::Hang if is_tenth => {
                    to.write_all(&output)?;
                    is_hanging = true;
                }
                _ => {}
            }
            output.extend_from_slice(&packet);
            if is_publish && let Some(kept) = kept.take() {
                output.extend_from_slice(&kept);
            }
        }
        if !is_hanging {
            to.write_all(&output)?;
        }
    }
}

/// Bytes behind the fixed header.
fn packet_body(packet: &[u8]) -> usize {
    let header = FrameHeader::peek(packet, ProtocolVersion::V5, &Limits::PROTOCOL);
    let header = header.expect("a packet").expect("a whole one");
    header.packet_length() - header.header_length()
}

fn packet_length(input: &[u8]) -> Option<usize> {
    let header = FrameHeader::peek(input, ProtocolVersion::V5, &Limits::PROTOCOL);
    let length = header.expect("the broker sends packets")?.packet_length();
    (input.len() >= length).then_some(length)
}
