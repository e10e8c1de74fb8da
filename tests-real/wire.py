"""MQTT by hand: packets as bytes, well-formed or not, over a plain socket.

Written from the standard alone, so that it shares no mistake with the broker's codec or any client's.
"""

import collections
import socket
import struct

from harness import HOST, PATIENCE, Failure, check, check_equal

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

Packet = collections.namedtuple("Packet", "type flags body")


def variable(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("!H", len(data)) + data


def packet(kind, flags, body=b""):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def connect(client_id, version=5, clean=True, keepalive=0, properties=b"", name=b"MQTT", flags=None):
    flags = (0x02 if clean else 0) if flags is None else flags
    body = string(name) + bytes([version, flags]) + struct.pack("!H", keepalive)
    if version == 5:
        body += variable(len(properties)) + properties
    return packet(CONNECT, 0, body + string(client_id))


def publish(topic, payload=b"", qos=0, packet_id=None, version=5, flags=0, properties=b""):
    body = string(topic)
    if qos or packet_id is not None:
        body += struct.pack("!H", 1 if packet_id is None else packet_id)
    if version == 5:
        body += variable(len(properties)) + properties
    return packet(PUBLISH, qos << 1 | flags, body + payload)


def subscribe(filters, qos=0, packet_id=1, version=5, flags=0x02, properties=b"", options=0):
    body = struct.pack("!H", packet_id)
    if version == 5:
        body += variable(len(properties)) + properties
    return packet(SUBSCRIBE, flags, body + b"".join(string(text) + bytes([qos | options]) for text in filters))


class Wire:
    """One connection. Reads are buffered; the socket is `socket` for those who want to misuse it."""

    def __init__(self, port, version=5, receive_buffer=None, patience=PATIENCE):
        self.version = version
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(patience)
        self.socket.connect((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def packet(self):
        """The next packet, or None when the broker has closed the connection."""
        while (found := self._take()) is None:
            try:
                received = self.socket.recv(65_536)
            except ConnectionResetError:
                return None
            except TimeoutError:
                raise Failure("the broker neither answered nor closed the connection") from None
            if not received:
                return None
            self.buffer += received
        return found

    def expect(self, kind):
        got = self.packet()
        check(got is not None, f"closed while packet type {kind} was awaited")
        check(got.type == kind, f"packet type {kind} was awaited, got {got}")
        return got

    def connect(self, client_id, **options):
        """Sends CONNECT and returns the CONNACK's body once it says success."""
        self.send(connect(client_id, version=self.version, **options))
        body = self.expect(CONNACK).body
        check_equal(body[1], 0, "return code of CONNACK")
        return body

    def subscribe(self, filters, qos=0, packet_id=1):
        """Subscribes and returns the SUBACK's codes."""
        self.send(subscribe(filters, qos, packet_id, self.version))
        return self.suback()

    def suback(self):
        body = self.expect(SUBACK).body
        if self.version == 5:
            # A reason string is the only property that might be here, and its length fits one byte or two.
            length, size = read_variable(body, 2)
            return body[2 + size + length :]
        return body[2:]

    def ping(self):
        self.send(packet(PINGREQ, 0))
        self.expect(PINGRESP)

    def message(self):
        """The next PUBLISH as topic, payload; acknowledges QoS 1."""
        got = self.expect(PUBLISH)
        length = struct.unpack_from("!H", got.body)[0]
        at = 2 + length
        if got.flags & 0x06:
            packet_id = got.body[at : at + 2]
            at += 2
            if got.flags & 0x06 == 0x02:
                self.send(packet(PUBACK, 0, packet_id))
        if self.version == 5:
            properties, size = read_variable(got.body, at)
            at += size + properties
        return got.body[2 : 2 + length], got.body[at:]

    def disconnect(self):
        self.send(packet(DISCONNECT, 0))
        self.close()

    def _take(self):
        if len(self.buffer) < 2:
            return None
        try:
            length, size = read_variable(self.buffer, 1)
        except IndexError:
            return None
        end = 1 + size + length
        if len(self.buffer) < end:
            return None
        first = self.buffer[0]
        body = bytes(self.buffer[1 + size : end])
        del self.buffer[:end]
        return Packet(first >> 4, first & 0x0F, body)


def read_variable(data, at):
    """The value at `at` and the number of its bytes."""
    value = shift = 0
    for size in range(1, 5):
        byte = data[at + size - 1]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, size
    raise Failure("the broker sent a variable byte integer of more than four bytes")
