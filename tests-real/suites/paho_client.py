"""paho-mqtt 2, the reference client in Python, in 3.1, 3.1.1 and 5."""

import queue
import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from harness import HOST, PATIENCE, check, check_equal, shorten, test, wait_until

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
QOS = [0, 1, 2]
GRID = [(version, qos) for version in VERSIONS for qos in QOS]
MAIN_VERSIONS = ["3.1.1", "5"]
# Around the steps of the remaining length field, and a large one.
SIZES = [0, 1, 126, 127, 128, 16_382, 16_383, 16_384, 65_535, 65_536, 200_000]


def properties(kind, **values):
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    """A paho client on its own thread, with queues where paho has callbacks."""

    def __init__(self, context, version, role="client", client_id=None, clean=True, manual_ack=False):
        self.version = version
        self.clean = clean
        self.client_id = context.client_id(role) if client_id is None else client_id
        self.port = context.port
        self.messages = queue.SimpleQueue()
        self.connacks = queue.SimpleQueue()
        self.disconnects = queue.SimpleQueue()
        self.answers = {}
        self.changed = threading.Condition()
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if version == "5" else clean,
            protocol=VERSIONS[version],
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        self.paho.on_connect = lambda _c, _u, flags, code, props: self.connacks.put((flags, code, props))
        self.paho.on_disconnect = lambda _c, _u, _flags, code, _props: self.disconnects.put(code)
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_publish = lambda _c, _u, mid, code, _props: self._answer(("publish", mid), code)
        self.paho.on_subscribe = lambda _c, _u, mid, codes, _props: self._answer(("subscribe", mid), codes)
        self.paho.on_unsubscribe = lambda _c, _u, mid, codes, _props: self._answer(("unsubscribe", mid), codes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

    def connect(self, keepalive=60, **connect_properties):
        """Connects and returns itself; the CONNACK is in `flags`, `code` and `properties`."""
        arguments = {"keepalive": keepalive}
        if self.version == "5":
            arguments["clean_start"] = self.clean
            arguments["properties"] = properties(PacketTypes.CONNECT, **connect_properties)
        self.paho.connect(HOST, self.port, **arguments)
        self.paho.loop_start()
        self.flags, self.code, self.properties = take(self.connacks, "CONNACK")
        check(not self.code.is_failure, f"CONNACK says {self.code}")
        return self

    def subscribe(self, filters, qos=2, **subscribe_properties):
        """Subscribes, waits for the SUBACK and returns its codes as numbers."""
        if isinstance(filters, str):
            filters = [(filters, SubscribeOptions(qos=qos) if self.version == "5" else qos)]
        props = properties(PacketTypes.SUBSCRIBE, **subscribe_properties) if self.version == "5" else None
        _, mid = self.paho.subscribe(filters, properties=props)
        return [code.value for code in self._await(("subscribe", mid))]

    def unsubscribe(self, filters):
        _, mid = self.paho.unsubscribe(filters)
        return [code.value for code in self._await(("unsubscribe", mid))]

    def send(self, topic, payload=b"", qos=0, retain=False, **publish_properties):
        """Publishes without waiting; returns the message id."""
        props = properties(PacketTypes.PUBLISH, **publish_properties) if self.version == "5" else None
        return self.paho.publish(topic, payload, qos, retain, props).mid

    def publish(self, *arguments, **named):
        """Publishes, waits for the last acknowledgement and returns its code as a number."""
        return self.acknowledged(self.send(*arguments, **named))

    def acknowledged(self, mid):
        return self._await(("publish", mid)).value

    def next(self, patience=PATIENCE):
        return take(self.messages, "message", patience)

    def take(self, count):
        return [self.next() for _ in range(count)]

    def fence(self, topic):
        """Everything sent to this client before now has come when this returns its payloads up to now."""
        self.publish(topic, b"fence", qos=2)
        seen = []
        while (message := self.next()).payload != b"fence":
            seen.append(message.payload)
        return seen

    def disconnect(self, reason=0, **disconnect_properties):
        if self.version == "5":
            code = ReasonCode(PacketTypes.DISCONNECT, identifier=reason)
            self.paho.disconnect(code, properties(PacketTypes.DISCONNECT, **disconnect_properties))
        else:
            self.paho.disconnect()
        take(self.disconnects, "end of the connection")
        self.paho.loop_stop()

    def drop(self):
        """Breaks the connection without a DISCONNECT."""
        self.paho.socket().shutdown(socket.SHUT_RDWR)
        take(self.disconnects, "end of the connection")
        self.paho.loop_stop()

    def _answer(self, key, value):
        with self.changed:
            self.answers[key] = value
            self.changed.notify_all()

    def _await(self, key):
        with self.changed:
            done = self.changed.wait_for(lambda: key in self.answers, PATIENCE)
            check(done, f"no answer to {key[0]} {key[1]}")
            return self.answers.pop(key)


def take(source, what, patience=PATIENCE):
    try:
        return source.get(timeout=patience)
    except queue.Empty:
        check(False, f"no {what} within {patience:.0f} s")


@test(*[(version, qos) for version in VERSIONS for qos in QOS])
def payloads_of_every_size_arrive_unchanged(context, version, qos):
    topic = context.topic("x")
    with Client(context, version).connect() as client:
        check_equal(client.subscribe(topic, qos), [qos], "granted QoS")
        for size in SIZES:
            payload = bytes(index * 7 % 256 for index in range(size))
            client.publish(topic, payload, qos=qos)
            message = client.next()
            check(message.payload == payload, f"{size} bytes came as {shorten(message.payload)}")
            check_equal((message.topic, message.qos, message.retain, message.dup), (topic, qos, False, False), "flags")


@test(*GRID)
def burst_arrives_in_order_and_once(context, version, qos):
    topic = context.topic("x")
    count = 2_000
    with Client(context, version, "pub") as publisher, Client(context, version, "sub") as subscriber:
        publisher.paho.max_queued_messages_set(count)
        publisher.connect()
        subscriber.connect().subscribe(topic, qos)
        mids = [publisher.send(topic, str(number), qos) for number in range(count)]
        for mid in mids:
            publisher.acknowledged(mid)
        check_equal([int(message.payload) for message in subscriber.take(count)], list(range(count)), "numbers")
        check_equal(subscriber.fence(topic), [], "messages after the last")


@test(*MAIN_VERSIONS)
def unsubscribed_filter_delivers_nothing_more(context, version):
    topic = context.topic("x")
    with Client(context, version).connect() as client:
        client.subscribe(topic)
        other = context.topic("y")
        client.subscribe(other)
        codes = client.unsubscribe(topic)
        if version == "5":
            check_equal(codes, [0], "UNSUBACK")
            check_equal(client.unsubscribe(topic), [0x11], "UNSUBACK of a filter that is not there")
        client.publish(topic, b"lost", qos=2)
        check_equal(client.fence(other), [], "messages")


@test(*MAIN_VERSIONS)
def many_filters_in_one_packet_are_answered_in_order(context, version):
    filters = [(context.topic(str(number)), number % 3) for number in range(200)]
    asked = [(topic, SubscribeOptions(qos=qos)) for topic, qos in filters] if version == "5" else filters
    with Client(context, version).connect() as client:
        check_equal(client.subscribe(asked), [qos for _, qos in filters], "granted QoS")


@test(*[(version, qos) for version in VERSIONS for qos in [1, 2]])
def session_survives_its_connection(context, version, qos):
    topic = context.topic("x")
    expiry = {"SessionExpiryInterval": 300} if version == "5" else {}
    with Client(context, version, "keeper", clean=False) as client:
        check(not client.connect(**expiry).flags.session_present, "a session was there before the first connect")
        client.subscribe(topic, qos)
        client.drop()
    with Client(context, version, "pub").connect() as publisher:
        for number in range(100):
            publisher.publish(topic, str(number), qos)
    with Client(context, version, client_id=client.client_id, clean=False) as again:
        flags = again.connect(**expiry).flags
        # 3.1 has no such flag.
        check(version == "3.1" or flags.session_present, "the session was not kept")
        check_equal([int(message.payload) for message in again.take(100)], list(range(100)), "numbers")
    with Client(context, version, client_id=client.client_id, clean=True) as fresh:
        check(not fresh.connect().flags.session_present, "a clean start found a session")


@test(*VERSIONS)
def unacknowledged_messages_come_again_as_duplicates(context, version):
    topic = context.topic("x")
    expiry = {"SessionExpiryInterval": 300} if version == "5" else {}
    with Client(context, version, "keeper", clean=False, manual_ack=True) as client:
        client.connect(**expiry).subscribe(topic, 1)
        with Client(context, version, "pub").connect() as publisher:
            for number in range(3):
                publisher.publish(topic, str(number), 1)
        first = client.take(3)
        check(not any(message.dup for message in first), "a first delivery is marked as duplicate")
        client.drop()
    with Client(context, version, client_id=client.client_id, clean=False) as again:
        again.connect(**expiry)
        second = again.take(3)
        check_equal([message.payload for message in second], [b"0", b"1", b"2"], "payloads")
        check(all(message.dup for message in second), "a repeated delivery is not marked as duplicate")
        check_equal([message.mid for message in second], [message.mid for message in first], "packet ids")


@test(*VERSIONS)
def idle_client_stays_connected_by_pings(context, version):
    topic = context.topic("x")
    with Client(context, version).connect(keepalive=1) as client:
        client.subscribe(topic)
        # Three times the limit of 1.5 keep alives: only time itself can show this.
        time.sleep(4.5)
        check(client.disconnects.empty(), "the connection ended")
        check_equal(client.fence(topic), [], "messages")


@test(*VERSIONS, mosquitto_limit="2.0.11 ends the older connection without a DISCONNECT")
def second_connection_takes_the_client_id_over(context, version):
    topic = context.topic("x")
    with Client(context, version, "twin").connect() as first:
        with Client(context, version, client_id=first.client_id).connect() as second:
            code = take(first.disconnects, "end of the first connection")
            if version == "5":
                check_equal(code.value, 0x8E, "reason")
            second.subscribe(topic)
            check_equal(second.fence(topic), [], "messages")


@test(*[(version, qos) for version in VERSIONS for qos in QOS])
def will_follows_a_broken_connection(context, version, qos):
    topic = context.topic("will")
    with Client(context, version, "watcher").connect() as watcher, Client(context, version, "dying") as dying:
        watcher.subscribe(topic)
        props = {}
        if version == "5":
            props["properties"] = properties(
                PacketTypes.WILLMESSAGE, ContentType="text/x", CorrelationData=b"\0w", UserProperty=[("a", "b")]
            )
        dying.paho.will_set(topic, b"gone", qos, retain=False, **props)
        dying.connect().drop()
        message = watcher.next()
        check_equal((message.payload, message.qos), (b"gone", qos), "will")
        if version == "5":
            got = message.properties
            check_equal((got.ContentType, got.CorrelationData), ("text/x", b"\0w"), "will's properties")
            check_equal(got.UserProperty, [("a", "b")], "will's user properties")


@test()
def properties_of_a_publish_arrive(context):
    topic = context.topic("x")
    values = {
        "UserProperty": [("b", "2"), ("a", "1"), ("b", "3"), ("ключ", "значение")],
        "CorrelationData": bytes(range(256)),
        "ResponseTopic": context.topic("answer"),
        "ContentType": "application/json",
        "PayloadFormatIndicator": 1,
        "MessageExpiryInterval": 500,
    }
    with Client(context, "5").connect() as client:
        client.subscribe(topic)
        for qos in QOS:
            client.publish(topic, "{}", qos, **values)
            got = client.next().properties
            for name, value in values.items():
                if name == "MessageExpiryInterval":
                    check(0 < got.MessageExpiryInterval <= 500, f"expiry is {got.MessageExpiryInterval}")
                else:
                    check_equal(getattr(got, name), value, name)


@test(*QOS)
def request_is_answered_by_correlation(context, qos):
    question = context.topic("question")
    with Client(context, "5", "responder").connect() as responder, Client(context, "5", "asker").connect() as asker:
        responder.subscribe(question, qos)
        answers = context.topic("answer")
        asker.subscribe(answers, qos)
        for number in range(20):
            asker.send(question, str(number), qos, ResponseTopic=answers, CorrelationData=bytes([number, 0, 255]))
        for message in responder.take(20):
            got = message.properties
            square = int(message.payload) ** 2
            responder.send(got.ResponseTopic, str(square), qos, CorrelationData=got.CorrelationData)
        replies = {message.properties.CorrelationData[0]: int(message.payload) for message in asker.take(20)}
        check_equal(replies, {number: number**2 for number in range(20)}, "answers")


@test()
def message_expires_in_an_offline_queue(context):
    topic = context.topic("x")
    with Client(context, "5", "keeper", clean=False) as client:
        client.connect(SessionExpiryInterval=300).subscribe(topic)
        client.disconnect()
    with Client(context, "5", "pub").connect() as publisher:
        publisher.publish(topic, b"short", 1, MessageExpiryInterval=1)
        publisher.publish(topic, b"long", 1, MessageExpiryInterval=100)
        published = time.monotonic()
    # Expiry is a matter of time; one second, and one more because intervals are whole seconds.
    time.sleep(2.2)
    with Client(context, "5", client_id=client.client_id, clean=False) as again:
        again.connect(SessionExpiryInterval=300)
        message = again.next()
        check_equal(message.payload, b"long", "first message")
        waited = int(time.monotonic() - published)
        check(message.properties.MessageExpiryInterval <= 100 - min(waited, 2), "expiry was not counted down")
        check_equal(again.fence(topic), [], "further messages")


@test()
def retained_message_expires(context):
    topic = context.topic("x")
    with Client(context, "5").connect() as client:
        client.publish(topic, b"x", 1, retain=True, MessageExpiryInterval=1)
        time.sleep(2.2)
        client.subscribe(topic)
        check_equal(client.fence(topic), [], "retained messages")


@test()
def session_expires(context):
    with Client(context, "5", "keeper", clean=False) as client:
        client.connect(SessionExpiryInterval=1).subscribe(context.topic("x"))
        client.disconnect()
    time.sleep(3)
    with Client(context, "5", client_id=client.client_id, clean=False) as again:
        check(not again.connect(SessionExpiryInterval=1).flags.session_present, "the session is still there")


@test()
def session_expiry_can_be_changed_at_disconnect(context):
    with Client(context, "5", "keeper", clean=False) as client:
        client.connect(SessionExpiryInterval=300).subscribe(context.topic("x"))
        client.disconnect(SessionExpiryInterval=0)
    with Client(context, "5", client_id=client.client_id, clean=False) as again:
        check(not again.connect().flags.session_present, "the session is still there")


@test()
def will_delay_ends_with_the_session(context):
    topic = context.topic("will")
    with Client(context, "5", "watcher").connect() as watcher, Client(context, "5", "dying", clean=False) as dying:
        watcher.subscribe(topic)
        props = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=300)
        dying.paho.will_set(topic, b"gone", 1, properties=props)
        dying.connect(SessionExpiryInterval=1).drop()
        check_equal(watcher.next().payload, b"gone", "will")


@test()
def will_delay_is_cancelled_by_a_return(context):
    topic = context.topic("will")
    with Client(context, "5", "watcher").connect() as watcher, Client(context, "5", "dying", clean=False) as dying:
        watcher.subscribe(topic)
        props = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=2)
        dying.paho.will_set(topic, b"gone", 1, properties=props)
        dying.connect(SessionExpiryInterval=300).drop()
        with Client(context, "5", client_id=dying.client_id, clean=False).connect(SessionExpiryInterval=300):
            time.sleep(3)
            check_equal(watcher.fence(topic), [], "wills")


@test()
def disconnect_with_will_sends_it(context):
    topic = context.topic("will")
    with Client(context, "5", "watcher").connect() as watcher, Client(context, "5", "leaving") as leaving:
        watcher.subscribe(topic)
        leaving.paho.will_set(topic, b"gone", 1)
        leaving.connect().disconnect(reason=0x04)
        check_equal(watcher.next().payload, b"gone", "will")


@test()
def retain_handling_decides_about_retained_messages(context):
    topic = context.topic("x")
    with Client(context, "5").connect() as client:
        client.publish(topic, b"kept", 1, retain=True)
        for handling, first, again in [(0, [b"kept"], [b"kept"]), (1, [b"kept"], []), (2, [], [])]:
            options = [(topic, SubscribeOptions(qos=1, retainHandling=handling))]
            client.subscribe(options)
            check_equal(client.fence(topic), first, f"retain handling {handling}, new subscription")
            client.subscribe(options)
            check_equal(client.fence(topic), again, f"retain handling {handling}, repeated subscription")
            client.unsubscribe(topic)


@test()
def retain_as_published_keeps_the_flag(context):
    topic = context.topic("x")
    with Client(context, "5", "plain").connect() as plain, Client(context, "5", "keeping").connect() as keeping:
        plain.subscribe(topic)
        keeping.subscribe([(topic, SubscribeOptions(qos=1, retainAsPublished=True))])
        plain.publish(topic, b"a", 1, retain=True)
        plain.publish(topic, b"b", 1, retain=False)
        check_equal([message.retain for message in plain.take(2)], [False, False], "flags without the option")
        check_equal([message.retain for message in keeping.take(2)], [True, False], "flags with the option")


@test()
def no_local_keeps_own_messages_away(context):
    topic = context.topic("x")
    with Client(context, "5", "self").connect() as client, Client(context, "5", "other").connect() as other:
        client.subscribe([(topic, SubscribeOptions(qos=1, noLocal=True))])
        client.publish(topic, b"own", 1)
        other.publish(topic, b"other's", 1)
        check_equal(client.next().payload, b"other's", "first message")


@test()
def subscription_identifiers_name_the_filters_that_matched(context):
    base = context.topic("x")
    with Client(context, "5").connect() as client:
        client.subscribe(f"{base}/a", 1, SubscriptionIdentifier=7)
        client.subscribe(f"{base}/+", 1, SubscriptionIdentifier=268_435_455)
        client.subscribe(f"{base}/b", 1)
        for rest, expected in [("a", [7, 268_435_455]), ("c", [268_435_455])]:
            client.publish(f"{base}/{rest}", rest, 1)
            seen = []
            # One message with all, or one for each subscription: both are allowed [MQTT-3.3.4-2].
            while len(seen) < len(expected):
                seen += client.next().properties.SubscriptionIdentifier
            check_equal(sorted(seen), expected, f"identifiers for {rest}")


@test(*MAIN_VERSIONS)
def overlapping_subscriptions_have_the_highest_qos(context, version):
    base = context.topic("x")
    with Client(context, version).connect() as client:
        client.subscribe(f"{base}/#", 0)
        client.subscribe(f"{base}/a", 2)
        client.subscribe(f"{base}/+", 1)
        client.publish(f"{base}/a", b"x", 2)
        # One copy at the highest QoS, or one for each subscription [MQTT-3.3.5-1], [MQTT-3.3.4-2].
        seen = [client.next().qos]
        client.publish(f"{base}/end", b"end", 2)
        while (message := client.next()).payload != b"end":
            seen.append(message.qos)
        check(max(seen) == 2, f"delivered at {seen}")


@test(*MAIN_VERSIONS)
def shared_subscription_serves_members_that_stay(context, version):
    topic = context.topic("jobs")
    share = f"$share/{context.client_id('group')}/{topic}"
    with Client(context, version, "one").connect() as one, Client(context, version, "two").connect() as two:
        one.subscribe(share, 1)
        two.subscribe(share, 1)
        with Client(context, version, "pub").connect() as publisher:
            for number in range(100):
                publisher.publish(topic, str(number), 1)
            wait_until(lambda: one.messages.qsize() + two.messages.qsize() == 100, "100 jobs at the members")
            parts = [[client.next().payload for _ in range(client.messages.qsize())] for client in (one, two)]
            check(all(parts), f"a member got nothing: {[len(part) for part in parts]}")
            check_equal(sorted(map(int, sum(parts, []))), list(range(100)), "jobs")
            two.disconnect()
            for number in range(20):
                publisher.publish(topic, str(number), 1)
        check_equal([int(message.payload) for message in one.take(20)], list(range(20)), "jobs of the one that stays")


@test(mosquitto_limit="2.0.11 sends retained messages to new shared subscriptions")
def shared_subscription_gets_no_retained_messages(context):
    topic = context.topic("jobs")
    with Client(context, "5").connect() as client:
        client.publish(topic, b"kept", 1, retain=True)
        client.subscribe(f"$share/g/{topic}", 1)
        check_equal(client.fence(topic), [], "retained messages")


@test()
def receive_maximum_bounds_what_is_in_flight(context):
    topic = context.topic("x")
    with Client(context, "5", manual_ack=True).connect(ReceiveMaximum=2) as client:
        client.subscribe(topic, 1)
        with Client(context, "5", "pub").connect() as publisher:
            for number in range(6):
                publisher.publish(topic, str(number), 1)
        held = client.take(2)
        # What the broker had to send by now is here once it has answered; QoS 0 may wait too [5, 4.9].
        client.subscribe(topic + "/other", 0)
        check(client.messages.empty(), "a message came after the quota was used up")
        numbers = []
        while held:
            message = held.pop(0)
            numbers.append(int(message.payload))
            client.paho.ack(message.mid, message.qos)
            if len(numbers) + len(held) < 6:
                held.append(client.next())
        check_equal(numbers, list(range(6)), "numbers")


@test()
def packet_larger_than_the_client_takes_is_not_sent(context):
    topic = context.topic("x")
    with Client(context, "5").connect(MaximumPacketSize=1_000) as client:
        client.subscribe(topic)
        with Client(context, "5", "pub").connect() as publisher:
            for qos in QOS:
                publisher.publish(topic, bytes(2_000), qos)
            publisher.publish(topic, b"small", 1)
        check_equal(client.next().payload, b"small", "first message")


@test()
def server_assigns_an_identifier(context):
    with Client(context, "5", client_id="").connect() as one, Client(context, "5", client_id="").connect() as two:
        ids = [client.properties.AssignedClientIdentifier for client in (one, two)]
        check(all(ids) and ids[0] != ids[1], f"assigned identifiers are {ids}")


@test()
def acknowledgement_may_say_that_nobody_listens(context):
    with Client(context, "5").connect() as client:
        for qos in [1, 2]:
            code = client.publish(context.topic("nobody"), b"x", qos)
            check(code in (0x00, 0x10), f"QoS {qos} was answered with 0x{code:02x}")


@test(*MAIN_VERSIONS)
def retained_flood_is_delivered_whole(context, version):
    base = context.topic("r")
    with Client(context, version, "pub") as publisher:
        publisher.paho.max_queued_messages_set(1_000)
        publisher.connect()
        for mid in [publisher.send(f"{base}/{number}", str(number), 1, retain=True) for number in range(1_000)]:
            publisher.acknowledged(mid)
    with Client(context, version, "sub").connect() as subscriber:
        subscriber.subscribe(f"{base}/+", 1)
        got = subscriber.take(1_000)
        check(all(message.retain for message in got), "a retained message came without its flag")
        check_equal(sorted(int(message.payload) for message in got), list(range(1_000)), "retained messages")
