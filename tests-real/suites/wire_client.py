"""A client by hand: what no real client lets a test see."""

import struct

import wire
from harness import check, check_equal, test
from wire import Wire

VERSIONS = [4, 5]
# Session expiry interval of 300 s, for 5.
KEEP = struct.pack("!BI", 0x11, 300)


def resume(context, version, client_id):
    client = Wire(context.port, version)
    body = client.connect(client_id, clean=False, properties=KEEP if version == 5 else b"")
    return client, body[0] & 1


def publish_id(packet, topic):
    return struct.unpack_from("!H", packet.body, 2 + len(topic))[0]


@test(*VERSIONS)
def exchange_at_qos_2_goes_on_where_it_broke_off(context, version):
    topic, client_id = context.topic("x"), context.client_id("keeper")
    client, present = resume(context, version, client_id)
    with client:
        check_equal(present, 0, "session present")
        client.subscribe([topic], qos=2)
        with Wire(context.port, version) as publisher:
            publisher.connect(context.client_id("pub"))
            publisher.send(wire.publish(topic, b"once", qos=2, packet_id=9, version=version))
            publisher.expect(wire.PUBREC)
            publisher.send(wire.packet(wire.PUBREL, 2, struct.pack("!H", 9)))
            publisher.expect(wire.PUBCOMP)
        first = client.expect(wire.PUBLISH)
        check_equal(first.flags, 0b0100, "flags of the first delivery")
    packet_id = publish_id(first, topic)

    # Not acknowledged at all: the message comes again, as a duplicate under its id.
    client, present = resume(context, version, client_id)
    with client:
        check_equal(present, 1, "session present")
        second = client.expect(wire.PUBLISH)
        check_equal((second.flags, publish_id(second, topic)), (0b1100, packet_id), "flags and id of the second")
        client.send(wire.packet(wire.PUBREC, 0, struct.pack("!H", packet_id)))
        released = client.expect(wire.PUBREL)
        check_equal(released.body[:2], struct.pack("!H", packet_id), "id of PUBREL")

    # Received but not completed: PUBREL comes again, the message never.
    client, present = resume(context, version, client_id)
    with client:
        check_equal(present, 1, "session present")
        released = client.expect(wire.PUBREL)
        check_equal(released.body[:2], struct.pack("!H", packet_id), "id of the second PUBREL")
        client.send(wire.packet(wire.PUBCOMP, 0, struct.pack("!H", packet_id)))
        client.ping()

    # Complete: nothing is left.
    client, present = resume(context, version, client_id)
    with client:
        check_equal(present, 1, "session present")
        client.ping()


@test(*VERSIONS, mosquitto_limit="2.0.11 ends the connection on a PUBREL whose packet id it does not know")
def repeated_publish_at_qos_2_is_delivered_once(context, version):
    topic = context.topic("x")
    with Wire(context.port, version) as subscriber, Wire(context.port, version) as publisher:
        subscriber.connect(context.client_id("sub"))
        subscriber.subscribe([topic], qos=0)
        publisher.connect(context.client_id("pub"))
        for flags in [0, 8, 8]:
            publisher.send(wire.publish(topic, b"once", qos=2, packet_id=5, version=version, flags=flags))
            publisher.expect(wire.PUBREC)
        for _ in range(2):
            publisher.send(wire.packet(wire.PUBREL, 2, struct.pack("!H", 5)))
            publisher.expect(wire.PUBCOMP)
        publisher.send(wire.publish(topic, b"end", version=version))
        got = [subscriber.message()[1], subscriber.message()[1]]
        check_equal(got, [b"once", b"end"], "messages")


@test(*VERSIONS)
def acknowledgements_keep_the_order_of_the_messages(context, version):
    with Wire(context.port, version) as publisher:
        publisher.connect(context.client_id("pub"))
        ids = list(range(1, 19))
        batch = [wire.publish(context.topic("x"), b"x", 1, number, version) for number in ids]
        publisher.send(b"".join(batch))
        answered = [struct.unpack_from("!H", publisher.expect(wire.PUBACK).body)[0] for _ in ids]
        check_equal(answered, ids, "packet ids of the PUBACKs")


@test(*VERSIONS)
def packets_may_arrive_a_byte_at_a_time(context, version):
    topic = context.topic("x")
    with Wire(context.port, version) as client:
        stream = wire.connect(context.client_id("slow"), version=version) + wire.subscribe([topic], 1, 1, version)
        stream += wire.publish(topic, b"in pieces", 1, 2, version) + wire.packet(wire.PINGREQ, 0)
        for byte in stream:
            client.send(bytes([byte]))
        kinds = set()
        while kinds != {wire.CONNACK, wire.SUBACK, wire.PUBLISH, wire.PUBACK, wire.PINGRESP}:
            got = client.packet()
            check(got is not None, f"closed after {kinds}")
            kinds.add(got.type)


@test(*VERSIONS)
def packets_may_follow_connect_without_waiting(context, version):
    topic = context.topic("x")
    with Wire(context.port, version) as client:
        stream = wire.connect(context.client_id("eager"), version=version) + wire.subscribe([topic], 0, 1, version)
        client.send(stream + wire.publish(topic, b"early", version=version))
        client.expect(wire.CONNACK)
        kinds = {client.packet().type for _ in range(2)}
        check_equal(kinds, {wire.SUBACK, wire.PUBLISH}, "answers")
