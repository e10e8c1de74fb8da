//! Decoding and encoding, packet by packet, beside published codecs.

mod library;
mod strictness;

use std::hint::black_box;

use bytes::BytesMut;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel_benches::{Frame, frames, time_batches};
use whimbrel_broker_core::session::codec::{
    Decoded, FanOut, FanOutBuffer, FanOutTarget, Limits, PacketRef, Payload, ProtocolVersion,
    PublishSource, decode_ref,
};

use self::library::{
    Borrowed, Library, Mqttrs, Ntex4, Ntex5, Owned, Proto4, Proto5, ProtocolCore, Rumqttc4,
    Rumqttc5,
};

criterion_group!(benches, strictness, decode, encode);
criterion_main!(benches);

/// What the figures below do not say.
fn strictness(_: &mut Criterion) {
    println!("invalid packets, and who accepts them:");
    strictness::print();
}

/// One item: one packet decoded, and let go.
fn decode(criterion: &mut Criterion) {
    for frame in all_frames() {
        let many = frame.bytes.repeat(batch(&frame));
        let mut group = group(criterion, "decode", &frame);
        bench_decode::<Borrowed>(&mut group, &frame, &many);
        bench_decode::<Owned>(&mut group, &frame, &many);
        bench_decode::<Rumqttc4>(&mut group, &frame, &many);
        bench_decode::<Rumqttc5>(&mut group, &frame, &many);
        bench_decode::<ProtocolCore>(&mut group, &frame, &many);
        bench_decode::<Mqttrs>(&mut group, &frame, &many);
        bench_decode::<Proto4>(&mut group, &frame, &many);
        bench_decode::<Proto5>(&mut group, &frame, &many);
        bench_decode::<Ntex4>(&mut group, &frame, &many);
        bench_decode::<Ntex5>(&mut group, &frame, &many);
        group.finish();
    }
}

/// One item: one packet encoded; for the fan-out, one packet of a message that goes to many.
fn encode(criterion: &mut Criterion) {
    for frame in all_frames() {
        let mut group = group(criterion, "encode", &frame);
        bench_fan_out(&mut group, &frame);
        bench_encode::<Owned>(&mut group, &frame);
        bench_encode::<Rumqttc4>(&mut group, &frame);
        bench_encode::<Rumqttc5>(&mut group, &frame);
        bench_encode::<ProtocolCore>(&mut group, &frame);
        bench_encode::<Mqttrs>(&mut group, &frame);
        bench_encode::<Proto4>(&mut group, &frame);
        bench_encode::<Proto5>(&mut group, &frame);
        bench_encode::<Ntex4>(&mut group, &frame);
        bench_encode::<Ntex5>(&mut group, &frame);
        group.finish();
    }
}

fn all_frames() -> Vec<Frame> {
    let mut all = frames(ProtocolVersion::V311);
    all.extend(frames(ProtocolVersion::V5));
    all
}

fn group<'c>(
    criterion: &'c mut Criterion,
    operation: &str,
    frame: &Frame,
) -> BenchmarkGroup<'c, WallTime> {
    let name = format!("{operation}/{:?}/{}", frame.version, frame.name);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group
}

fn bench_decode<'f, L: Library<'f>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    frame: &'f Frame,
    many: &'f [u8],
) {
    if !L::speaks(frame.version) {
        return;
    }
    check::<L>(frame);
    let batch = batch(frame);
    let mut input = L::input(many, frame);
    group.bench_function(L::NAME, |bencher| {
        bencher.iter_custom(|iterations| {
            time_batches(
                iterations,
                batch,
                &mut input,
                |input| *input = L::input(many, frame),
                |input| {
                    for _ in 0..batch {
                        let packet = L::decode(input, frame.version);
                        drop(black_box(packet.expect("it was decoded before")));
                    }
                },
            )
        });
    });
}

fn bench_encode<'f, L: Library<'f>>(group: &mut BenchmarkGroup<'_, WallTime>, frame: &'f Frame) {
    if !L::speaks(frame.version) {
        return;
    }
    check::<L>(frame);
    let mut input = L::input(&frame.bytes, frame);
    let packet = L::decode(&mut input, frame.version).expect("it was decoded before");
    let (writes, per_write) = writes(frame);
    let mut output = L::output(per_write * frame.bytes.len());
    group.bench_function(L::NAME, |bencher| {
        bencher.iter_custom(|iterations| {
            time_batches(
                iterations,
                writes * per_write,
                &mut output,
                |_| {},
                |output| {
                    for _ in 0..writes {
                        L::clear(output);
                        for _ in 0..per_write {
                            L::encode(black_box(&packet), frame.version, output);
                        }
                    }
                },
            )
        });
    });
}

/// What a PUBLISH costs when the same message was encoded before: the template and its share of making it.
fn bench_fan_out(group: &mut BenchmarkGroup<'_, WallTime>, frame: &Frame) {
    let decoded = decode_ref(&frame.bytes, frame.version, &Limits::DEFAULT);
    let decoded = decoded.expect("a valid packet").expect("a whole packet");
    let Decoded {
        packet: PacketRef::Publish(publish),
        ..
    } = decoded
    else {
        return;
    };
    let source = PublishSource {
        topic: publish.topic().expect("it has no alias"),
        properties: publish.properties(),
        payload: Payload::Borrowed(publish.payload()),
        message_expiry_secs: publish.properties().message_expiry_secs(),
    };
    let target = FanOutTarget::new(frame.version, publish.delivery());
    let mut buffer = FanOutBuffer::new();
    let (writes, per_write) = writes(frame);
    let mut output = BytesMut::with_capacity(per_write * frame.bytes.len());
    let mut write = |output: &mut BytesMut| {
        let mut fan_out = FanOut::new(black_box(source), &mut buffer);
        for _ in 0..writes {
            output.clear();
            for _ in 0..per_write {
                let written = fan_out.write(black_box(&target), output);
                written.expect("it was decoded in this version");
            }
        }
    };
    write(&mut output);
    if output.len() != per_write * frame.bytes.len() {
        // A topic alias is one connection's, and not fanned out.
        assert!(publish.properties().topic_alias().is_some());
        return;
    }
    group.bench_function("whimbrel_fan_out", |bencher| {
        bencher.iter_custom(|iterations| {
            time_batches(
                iterations,
                writes * per_write,
                &mut output,
                |_| {},
                &mut write,
            )
        });
    });
}

/// The library understands the packet and can write it again: as long as it was, since the order of properties is
/// free, and byte by byte where there are none.
fn check<'f, L: Library<'f>>(frame: &'f Frame) {
    let mut input = L::input(&frame.bytes, frame);
    let packet = L::decode(&mut input, frame.version);
    let packet = packet.unwrap_or_else(|| panic!("{} refuses {}", L::NAME, frame.name));
    let mut output = L::output(frame.bytes.len());
    L::encode(&packet, frame.version, &mut output);
    let written = L::written(&output);
    let what = format!("{} {}", L::NAME, frame.name);
    if !frame.version.is_v5() {
        assert_eq!(written, frame.bytes, "{what}");
    } else if frame.name.starts_with("publish") {
        assert_eq!(written.len(), frame.bytes.len(), "{what}");
    } else {
        // ntex-mqtt writes sections of properties that may be left out.
        assert!(written.len() >= frame.bytes.len(), "{what}");
    }
}

/// How many of these packets are worked through per reading of the clock.
fn batch(frame: &Frame) -> usize {
    BATCH_BYTES / frame.bytes.len().max(BATCH_BYTES / BATCH_MAX)
}

/// How often so many of these packets are encoded into the same memory per reading of the clock, as into the buffer of a
/// connection that is written whenever it has enough.
fn writes(frame: &Frame) -> (usize, usize) {
    let per_write = (WRITE_BYTES / frame.bytes.len()).max(1);
    (batch(frame).div_ceil(per_write), per_write)
}

/// What fits into a core's nearer caches.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_MAX: usize = 4_096;
/// What fits into the nearest.
const WRITE_BYTES: usize = 16 * 1024;
