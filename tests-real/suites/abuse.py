"""Bad input over raw sockets: what it costs, and that nobody else notices."""

import contextlib
import select
import socket
import struct
import subprocess
import sys
import threading
import time

import wire
from harness import HERE, PATIENCE, check, check_equal, test, wait_until
from wire import Wire

MIB = 1 << 20
# Others are served within this, whatever one client does.
SERVED_SECONDS = 1.0


class Canary:
    """Others, while a test misbehaves: `canary.py` as a process, judged at the end."""

    def __init__(self, context):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "canary.py"), str(context.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        check_equal(self.process.stdout.readline(), "ready\n", "the canary's first word")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            output, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            output = ""
        if kind is None:
            check(output, "the canary was not served any more")
            rounds, message, connect = output.split()
            slowest = f"{rounds} rounds, slowest message {message} s, slowest connect {connect} s"
            check(max(float(message), float(connect)) < SERVED_SECONDS, f"others had to wait: {slowest}")


class Memory:
    """The broker's resident memory from before to after."""

    def __init__(self, broker):
        self.broker = broker
        self.before = broker.rss()
        self.peak = self.before
        self.stopped = threading.Event()
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.sampler.join()

    def check_growth(self, limit):
        growth = max(self.peak, self.broker.rss()) - self.before
        check(growth <= limit, f"memory grew by {growth / MIB:.0f} MiB, at most {limit / MIB:.0f} were expected")

    def check_comes_back(self):
        """Half of what was taken may stay with the allocator, or 32 MiB when that is more."""
        growth = self.peak - self.before
        allowed = self.before + max(32 * MIB, growth // 2)
        wait_until(
            lambda: self.broker.rss() <= allowed,
            f"memory back to {allowed / MIB:.0f} MiB, from {self.before / MIB:.0f} it had grown to "
            f"{self.peak / MIB:.0f} and is at {self.broker.rss() / MIB:.0f}",
        )

    def _sample(self):
        while not self.stopped.wait(0.05):
            with contextlib.suppress(OSError):
                self.peak = max(self.peak, self.broker.rss())


# Malformed packets. Each row: a name, the bytes for 5, the bytes for 3.1.1 (None where the rule is of 5 alone), and the
# reason codes that a DISCONNECT may give for it: malformed packet 0x81, protocol error 0x82, or a closer one.

MALFORMED = [
    ("packet type 0", b"\x00\x00", b"\x00\x00", {0x81, 0x82}),
    ("length of five bytes", b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\xff\xff\x01", {0x81}),
    ("publish at QoS 3", b"\x36\x06\x00\x01a\x00\x01\x00", b"\x36\x05\x00\x01a\x00\x01", {0x81}),
    ("publish QoS 0 with DUP", b"\x38\x04\x00\x01a\x00", b"\x38\x03\x00\x01a", {0x81, 0x82}),
    (
        "publish with packet id 0",
        wire.publish("a", qos=1, packet_id=0),
        wire.publish("a", qos=1, packet_id=0, version=4),
        {0x81, 0x82},
    ),
    ("publish to a wildcard", wire.publish("a/+"), wire.publish("a/+", version=4), {0x81, 0x82, 0x90}),
    ("publish with NUL in the topic", wire.publish("a\0b"), wire.publish("a\0b", version=4), {0x81, 0x82, 0x90}),
    ("publish with broken UTF-8", wire.publish(b"\xc3\x28"), wire.publish(b"\xc3\x28", version=4), {0x81, 0x90}),
    (
        "publish with a surrogate in the topic",
        wire.publish(b"\xed\xa0\x80"),
        wire.publish(b"\xed\xa0\x80", version=4),
        {0x81, 0x90},
    ),
    ("publish shorter than its topic", b"\x30\x03\x00\x09a", b"\x30\x03\x00\x09a", {0x81}),
    ("publish without topic or alias", wire.publish(""), wire.publish("", version=4), {0x81, 0x82, 0x90}),
    ("publish with topic alias 0", wire.publish("a", properties=b"\x23\x00\x00"), None, {0x94, 0x82, 0x81}),
    ("publish with an alias beyond the maximum", wire.publish("a", properties=b"\x23\xff\xff"), None, {0x94}),
    ("publish with an unknown property", wire.publish("a", properties=b"\x7f\x00"), None, {0x81}),
    ("publish with a property twice", wire.publish("a", properties=b"\x01\x01\x01\x01"), None, {0x82, 0x81}),
    ("publish with a property of connect", wire.publish("a", properties=b"\x11\0\0\0\1"), None, {0x81, 0x82}),
    ("publish with a subscription identifier", wire.publish("a", properties=b"\x0b\x01"), None, {0x81, 0x82}),
    ("publish with properties too long", b"\x30\x04\x00\x01a\x09", None, {0x81}),
    (
        "subscribe with wrong flags",
        wire.subscribe(["a"], flags=0),
        wire.subscribe(["a"], flags=0, version=4),
        {0x81},
    ),
    ("subscribe to nothing", wire.subscribe([]), wire.subscribe([], version=4), {0x81, 0x82}),
    (
        "subscribe with packet id 0",
        wire.subscribe(["a"], packet_id=0),
        wire.subscribe(["a"], packet_id=0, version=4),
        {0x81, 0x82},
    ),
    ("subscribe at QoS 3", wire.subscribe(["a"], qos=3), wire.subscribe(["a"], qos=3, version=4), {0x81, 0x82}),
    (
        "subscribe with reserved option bits",
        wire.subscribe(["a"], options=0x40),
        wire.subscribe(["a"], options=0x40, version=4),
        {0x81, 0x82},
    ),
    ("subscribe shared with no local", wire.subscribe(["$share/g/a"], options=0x04), None, {0x82, 0x81}),
    ("subscribe with identifier 0", wire.subscribe(["a"], properties=b"\x0b\x00"), None, {0x82, 0x81}),
    ("unsubscribe from nothing", b"\xa2\x03\x00\x01\x00", b"\xa2\x02\x00\x01", {0x81, 0x82}),
    ("puback with flags", b"\x41\x02\x00\x01", b"\x41\x02\x00\x01", {0x81}),
    ("pubrel with wrong flags", b"\x60\x02\x00\x01", b"\x60\x02\x00\x01", {0x81}),
    ("pingreq with a body", b"\xc0\x01\x00", b"\xc0\x01\x00", {0x81, 0x82}),
    ("second connect", wire.connect("again"), wire.connect("again", version=4), {0x82}),
    ("packet of the server", b"\x20\x03\x00\x00\x00", b"\x20\x02\x00\x00", {0x81, 0x82}),
    ("auth without a method", b"\xf0\x00", b"\xf0\x00", {0x81, 0x82, 0x8C}),
    ("disconnect that revives the session", b"\xe0\x07\x00\x05\x11\0\0\0\x05", None, {0x82}),
]
MOSQUITTO_STRICTNESS = "2.0.11 lets some of these pass, or closes without a DISCONNECT or with another reason"


@test(
    *[(name, version) for name, _, bytes_v4, _ in MALFORMED for version in (4, 5) if version == 5 or bytes_v4],
    mosquitto_limit=MOSQUITTO_STRICTNESS,
)
def malformed_packet_closes_its_own_connection_only(context, name, version):
    _, bytes_v5, bytes_v4, reasons = next(row for row in MALFORMED if row[0] == name)
    with Wire(context.port, version) as bystander, Wire(context.port, version) as offender:
        bystander.connect(context.client_id("by"))
        offender.connect(context.client_id("bad"))
        offender.send(bytes_v5 if version == 5 else bytes_v4)
        answer = offender.packet()
        if version == 5:
            check(answer is not None, "closed without a DISCONNECT")
            check_equal(answer.type, wire.DISCONNECT, "type of the answer")
            # Without a body the reason is 0x00, which no error may have.
            reason = answer.body[0] if answer.body else 0
            expected = ", ".join(f"0x{code:02x}" for code in sorted(reasons))
            check(reason in reasons, f"reason 0x{reason:02x}, expected one of {expected}")
            answer = offender.packet()
        check(answer is None, f"the connection was not closed, got {answer}")
        bystander.ping()


FIRST_PACKETS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c4030342") + bytes(200),
    "nothing but zeros": bytes(64),
    "PINGREQ": b"\xc0\x00",
    "PUBLISH": wire.publish("a"),
    "CONNECT with a wrong name": wire.connect("x", name=b"MQTX"),
    "CONNECT with a name of 64 KiB": b"\x10\xff\xff\x7f\xff\xff" + bytes(70_000),
    "CONNECT with a reserved flag": wire.connect("x", flags=0x03),
    "CONNECT with a will at QoS 3": wire.connect("x", flags=0x1E),
    "CONNECT with a will's QoS and no will": wire.connect("x", flags=0x0A),
    "CONNECT with a password and no user (3.1.1)": wire.connect("x", version=4, flags=0x42),
    "CONNECT of level 6": wire.connect("x", version=6),
    "CONNECT that ends early": wire.packet(wire.CONNECT, 0, wire.string("MQTT") + b"\x05"),
    "CONNECT with flags in its header": b"\x11" + wire.connect("x")[1:],
    "CONNECT with bytes left over": wire.packet(wire.CONNECT, 0, wire.connect("x")[2:] + b"more"),
    "CONNECT with a receive maximum of 0": wire.connect("x", properties=b"\x21\x00\x00"),
    "CONNECT without id or clean session (3.1.1)": wire.connect("", version=4, clean=False),
}


@test(*FIRST_PACKETS, mosquitto_limit=MOSQUITTO_STRICTNESS)
def bad_first_packet_ends_the_connection(context, name):
    with Wire(context.port) as offender:
        offender.send(FIRST_PACKETS[name])
        answer = offender.packet()
        if answer is not None:
            check_equal(answer.type, wire.CONNACK, "type of the answer")
            check(answer.body[1] != 0, "the connection was accepted")
            answer = offender.packet()
        check(answer is None, f"the connection was not closed, got {answer}")


@test(4, 5)
def silent_client_is_closed_after_one_and_a_half_keep_alives(context, version):
    with Wire(context.port, version) as client:
        client.connect(context.client_id("silent"), keepalive=2)
        started = time.monotonic()
        answer = client.packet()
        if version == 5 and answer is not None:
            check_equal((answer.type, answer.body[0]), (wire.DISCONNECT, 0x8D), "DISCONNECT for keep alive timeout")
            answer = client.packet()
        waited = time.monotonic() - started
        check(answer is None, f"got {answer}")
        check(2.9 < waited < 3 + PATIENCE / 3, f"closed after {waited:.1f} s")


@test(
    0,
    1,
    alone=True,
    arguments=("--clean-queue-bytes", "16M"),
    mosquitto_limit="2.0.11 bounds what it holds for a slow reader by count, not by bytes",
)
def subscriber_that_stops_reading_costs_little_and_stalls_nobody(context, qos):
    topic = context.topic("x")
    payload = bytes(100_000)
    count = 4_000
    with Memory(context.broker) as memory, contextlib.ExitStack() as stack:
        stuck = stack.enter_context(Wire(context.port, receive_buffer=4_096))
        stuck.connect("stuck")
        stuck.subscribe([topic], qos)
        reader = stack.enter_context(Wire(context.port))
        reader.connect("reader")
        reader.subscribe([topic], qos)
        publisher = stack.enter_context(Wire(context.port))
        publisher.connect("publisher")
        stack.enter_context(Canary(context))
        # The publisher is never far ahead of the subscriber that reads, so none of that one's messages may be lost.
        ahead = 0
        for number in range(count):
            publisher.send(wire.publish(topic, payload, qos, number % 60_000 + 1 if qos else None))
            ahead += 1
            if ahead == 8:
                check_equal(reader.message()[1], payload, "payload at the subscriber that reads")
                ahead -= 1
            # PUBACKs are read as they come, so that the broker has no reason to wait.
            while qos and select.select([publisher.socket], [], [], 0)[0]:
                publisher.expect(wire.PUBACK)
        for _ in range(ahead):
            reader.message()
        # 400 MB were offered; the queue of the one that is stuck takes 16.
        memory.check_growth(48 * MIB)


@test(alone=True)
def publisher_that_reads_no_acknowledgements_costs_little(context):
    topic = context.topic("x")
    message = wire.publish(topic, b"x", qos=1, version=4)
    with Memory(context.broker) as memory, Canary(context), Wire(context.port, 4, receive_buffer=4_096) as deaf:
        deaf.connect("deaf")
        deaf.socket.setblocking(False)
        burst = message * 1_000
        sent = 0
        # 64 MB of messages are offered; a broker that stops reading is as good as one that goes on.
        while sent < 64_000_000 and select.select([], [deaf.socket], [], 2.0)[1]:
            try:
                sent += deaf.socket.send(burst[sent % len(message) :])
            except OSError:
                break
        memory.check_growth(64 * MIB)


@test(alone=True, mosquitto_limit="2.0.11 has no limit to the size of a packet by default")
def packet_larger_than_the_limit_is_refused_at_its_header(context):
    header = b"\x30" + wire.variable(268_435_455) + wire.string(context.topic("x")) + b"\0"
    with Memory(context.broker) as memory, Canary(context), contextlib.ExitStack() as stack:
        offenders = [stack.enter_context(Wire(context.port)) for _ in range(50)]
        for number, offender in enumerate(offenders):
            offender.connect(f"large-{number}")
            offender.send(header)
        for offender in offenders:
            answer = offender.packet()
            check(answer is not None, "closed without a DISCONNECT")
            check_equal((answer.type, answer.body[0]), (wire.DISCONNECT, 0x95), "DISCONNECT for packet too large")
        memory.check_growth(16 * MIB)


HALF_OPEN = 2_000
HALVES = {
    "silent": b"",
    "in the middle of CONNECT": wire.connect("half")[:-2],
}


@test(
    *HALVES,
    alone=True,
    arguments=("--connect-timeout", "2"),
    mosquitto_limit="2.0.11 waits 90 s for a CONNECT, and that is fixed",
)
def half_open_connections_are_gone_after_the_connect_timeout(context, name):
    with Memory(context.broker) as memory:
        files = context.broker.open_files()
        with Canary(context), contextlib.ExitStack() as stack:
            poller = select.poll()
            for _ in range(HALF_OPEN):
                half = stack.enter_context(Wire(context.port))
                half.send(HALVES[name])
                poller.register(half.socket, select.POLLIN | select.POLLRDHUP)
            closed = set()
            deadline = time.monotonic() + 2 + PATIENCE / 2
            while len(closed) < HALF_OPEN and time.monotonic() < deadline:
                for number, _ in poller.poll(1_000):
                    closed.add(number)
                    poller.unregister(number)
            check_equal(len(closed), HALF_OPEN, "connections closed by the broker")
        wait_until(lambda: context.broker.open_files() <= files, "the broker's descriptors back")
        memory.check_comes_back()


@test(
    alone=True,
    arguments=("--connect-timeout", "2"),
    mosquitto_limit="2.0.11 waits 90 s for a CONNECT, and that is fixed",
)
def connect_that_drips_in_gains_no_time(context):
    with Wire(context.port) as slow:
        started = time.monotonic()
        drops = wire.connect("drip" * 40)
        # A byte every 100 ms: the packet would take 18 s.
        for byte in drops:
            try:
                slow.send(bytes([byte]))
            except OSError:
                break
            if select.select([slow.socket], [], [], 0.1)[0]:
                break
        check(time.monotonic() - started < 10, "the broker let the CONNECT drip in")
        with contextlib.suppress(OSError):
            check(slow.packet() is None or slow.packet() is None, "the connection was not closed")


DEEP = 60_000


@test(alone=True, arguments=("--topic-levels", "65536"), mosquitto_limit="2.0.11 takes 200 levels at most")
def topics_and_filters_of_many_levels_are_served(context):
    matching = {
        "/" * DEEP: "/" * DEEP,
        "+/" * (DEEP // 2) + "#": "/" * DEEP,
        "a/" * (DEEP // 2) + "+": "a/" * (DEEP // 2),
    }
    with Memory(context.broker) as memory:
        with Canary(context):
            for filter_, topic in matching.items():
                with Wire(context.port) as client:
                    client.connect("deep")
                    check_equal(client.subscribe([filter_], qos=1), b"\x01", "SUBACK")
                    client.send(wire.publish(topic, b"deep", qos=0))
                    check_equal(client.message(), (topic.encode(), b"deep"), "message")
        memory.check_comes_back()


@test(alone=True)
def topics_and_filters_of_too_many_levels_do_no_harm(context):
    with Memory(context.broker) as memory:
        with Canary(context):
            for number in range(20):
                filter_ = f"{number}/" + "+/" * (DEEP // 2 - 10) + str(number)
                topic = f"{number}/" + "x/" * (DEEP // 2 - 10)
                with Wire(context.port) as client:
                    client.connect("deep")
                    offer(client, wire.subscribe([filter_], qos=1), wire.SUBACK)
                # Retained, and cleared again.
                for payload in [b"deep", b""]:
                    with Wire(context.port) as client:
                        client.connect("deep")
                        offer(client, wire.publish(topic, payload, qos=1, flags=1), wire.PUBACK)
        memory.check_comes_back()


def offer(client, data, *kinds):
    """The broker's answer, or None when it would rather end the connection, with a reason of its own."""
    try:
        client.send(data)
        answer = client.packet()
    except OSError:
        return None
    if answer is None:
        return None
    if answer.type == wire.DISCONNECT:
        check(answer.body and answer.body[0] >= 0x80, f"DISCONNECT without an error: {answer}")
        return None
    check(answer.type in kinds, f"packet types {kinds} were awaited, got {answer}")
    return answer


MANY = 100_000


@test(alone=True, mosquitto_limit="what 2.0.11 frees stays with its allocator")
def a_hundred_thousand_subscriptions_of_one_client(context):
    base = context.topic("many")
    per_packet = 250
    filters = [f"{base}/{number % 317}/{number}/+" for number in range(MANY)]
    with Memory(context.broker) as memory:
        with Canary(context), Wire(context.port) as client:
            client.connect("collector")
            granted = []
            for start in range(0, MANY, per_packet):
                part = filters[start : start + per_packet]
                codes = client.subscribe(part, qos=1)
                check_equal(len(codes), len(part), "number of codes in a SUBACK")
                granted += [text for text, code in zip(part, codes, strict=True) if code < 0x80]
            check(granted, "no subscription was granted")
            for text in granted[:: max(1, len(granted) // 100)]:
                topic = text[:-1] + "x"
                with Wire(context.port) as publisher:
                    publisher.connect("")
                    publisher.send(wire.publish(topic, b"here"))
                    check_equal(client.message(), (topic.encode(), b"here"), "message")
        memory.check_comes_back()


TAKEOVERS = 2_000


@test(4, 5, alone=True, mosquitto_limit="2.0.11 ends the older connection without a DISCONNECT")
def takeovers_of_one_client_id_leave_one_connection(context, version):
    topic = context.topic("x")
    with Memory(context.broker) as memory:
        files = context.broker.open_files()
        with Canary(context), contextlib.ExitStack() as stack:
            last = stack.enter_context(Wire(context.port, version))
            last.connect("contested")
            for _ in range(TAKEOVERS):
                following = stack.enter_context(Wire(context.port, version))
                following.connect("contested")
                answer = last.packet()
                if version == 5:
                    check(answer is not None, "closed without a DISCONNECT")
                    check_equal((answer.type, answer.body[0]), (wire.DISCONNECT, 0x8E), "DISCONNECT for a takeover")
                    answer = last.packet()
                check(answer is None, f"the older connection got {answer}")
                last.close()
                last = following
            last.subscribe([topic], qos=1)
            last.send(wire.publish(topic, b"mine", qos=0, version=version))
            check_equal(last.message(), (topic.encode(), b"mine"), "message to the last connection")
        wait_until(lambda: context.broker.open_files() <= files, "the broker's descriptors back")
        memory.check_comes_back()


@test(alone=True)
def simultaneous_takeovers_leave_one_connection(context):
    rivals = 200
    barrier = threading.Barrier(20)
    connections = []

    def fight():
        barrier.wait()
        for _ in range(rivals // 20):
            rival = Wire(context.port)
            connections.append(rival)
            with contextlib.suppress(OSError):
                rival.send(wire.connect("contested"))

    with Canary(context):
        fighters = [threading.Thread(target=fight) for _ in range(20)]
        for fighter in fighters:
            fighter.start()
        for fighter in fighters:
            fighter.join()
        # All but one are closed: that one answers a ping, the others end.
        poller = select.poll()
        for rival in connections:
            poller.register(rival.socket, select.POLLRDHUP)
        closed = set()

        def one_is_left():
            for number, _ in poller.poll(100):
                closed.add(number)
                poller.unregister(number)
            return len(closed) == rivals - 1

        wait_until(one_is_left, "all connections but one closed")
        survivor = next(rival for rival in connections if rival.socket.fileno() not in closed)
        check_equal(survivor.expect(wire.CONNACK).body[1], 0, "the survivor's CONNACK")
        survivor.ping()
        for rival in connections:
            rival.close()


@test(alone=True)
def reset_connections_leave_nothing_behind(context):
    with Memory(context.broker) as memory:
        files = context.broker.open_files()
        with Canary(context):
            for number in range(1_000):
                client = Wire(context.port)
                client.connect(f"reset-{number}")
                client.send(wire.subscribe([context.topic("x")]))
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        wait_until(lambda: context.broker.open_files() <= files, "the broker's descriptors back")
        memory.check_comes_back()
