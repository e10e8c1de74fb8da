"""mosquitto_pub, mosquitto_sub and mosquitto_rr, as Debian ships them, in all three versions."""

import contextlib
import queue
import signal
import subprocess
import threading

from harness import HOST, PATIENCE, check, check_equal, test

VERSIONS = ["mqttv31", "mqttv311", "mqttv5"]
QOS = [0, 1, 2]
GRID = [(version, qos) for version in VERSIONS for qos in QOS]


class Subscriber:
    """A running mosquitto_sub whose lines are read as they come."""

    def __init__(self, context, *arguments, version, role="sub", client_id=None):
        self.client_id = client_id or context.client_id(role)
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-h", HOST, "-p", str(context.port)]
        command += ["-V", version, "-i", self.client_id, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.messages = queue.SimpleQueue()
        self.subscribed = threading.Event()
        self.output = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def ready(self):
        """Waits for the SUBACK."""
        check(self.subscribed.wait(PATIENCE), f"no SUBACK, {self.last_words()}")
        return self

    def next(self):
        try:
            return self.messages.get(timeout=PATIENCE)
        except queue.Empty:
            check(False, f"no further message, {self.last_words()}")

    def take(self, count):
        return [self.next() for _ in range(count)]

    def interrupt(self):
        """Ends it with a DISCONNECT; a v5 one asks for the will all the same (reason 0x04)."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)

    def kill(self):
        """Ends it without a word to the broker."""
        self.process.kill()
        self.process.wait()
        self.reader.join(PATIENCE)

    def last_words(self):
        return f"the client said at last: {self.output[-6:]}"

    def _read(self):
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            if text.startswith("Subscribed (mid:"):
                self.subscribed.set()
            elif not text.startswith(("Client ", "All subscription", "Unsubscribed")):
                self.messages.put(text)
            self.output.append(text[:200])


def publish(context, *arguments, version, stdin=b"", client_id=None):
    command = ["mosquitto_pub", "-h", HOST, "-p", str(context.port), "-V", version]
    command += ["-i", client_id or context.client_id("pub"), *arguments]
    run(command, stdin)


def run(command, stdin=b""):
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=False)
    what = f"{' '.join(command)} said {done.stdout[:400]!r} {done.stderr[:400]!r}"
    check(done.returncode == 0, f"exit status {done.returncode}: {what}")
    return done.stdout


def drained(context, topic, version):
    """A subscriber sees everything up to now once it sees this marker."""
    publish(context, "-t", topic, "-m", "marker", "-q", "2", version=version)


@test(*GRID, mosquitto_limit="2.0.11 can send a v5 client more QoS 2 messages than its receive maximum of 20 allows")
def messages_arrive_in_order_at_their_qos(context, version, qos):
    topic = context.topic("a/b")
    lines = [f"message {number}" for number in range(50)]
    with Subscriber(context, "-t", topic, "-q", str(qos), "-F", "%q %r %t %p", version=version) as subscriber:
        subscriber.ready()
        publish(context, "-t", topic, "-q", str(qos), "-l", version=version, stdin="\n".join(lines).encode())
        check_equal(subscriber.take(50), [f"{qos} 0 {topic} {line}" for line in lines], "messages")


@test(*[(version, out, into) for version in VERSIONS for out, into in [(2, 0), (2, 1), (1, 2), (0, 2)]])
def delivery_has_the_lower_of_both_qos(context, version, out, into):
    topic = context.topic("x")
    with Subscriber(context, "-t", topic, "-q", str(into), "-F", "%q %p", version=version) as subscriber:
        subscriber.ready()
        publish(context, "-t", topic, "-q", str(out), "-m", "hello", version=version)
        check_equal(subscriber.next(), f"{min(out, into)} hello", "message")


@test(*GRID)
def binary_payload_arrives_whole(context, version, qos):
    topic = context.topic("x")
    payload = bytes(range(256)) * 400
    with Subscriber(context, "-t", topic, "-q", str(qos), "-F", "%l %x", version=version) as subscriber:
        subscriber.ready()
        publish(context, "-t", topic, "-q", str(qos), "-s", version=version, stdin=payload)
        check_equal(subscriber.next(), f"{len(payload)} {payload.hex()}", "message")


@test(*VERSIONS)
def null_payload_arrives(context, version):
    topic = context.topic("x")
    with Subscriber(context, "-t", topic, "-F", "[%l]", version=version) as subscriber:
        subscriber.ready()
        publish(context, "-t", topic, "-n", version=version)
        check_equal(subscriber.next(), "[0]", "message")


@test(*VERSIONS)
def wildcards_match_what_they_should(context, version):
    base = context.topic("w")
    filters = ["-t", f"{base}/+/c", "-t", f"{base}/d/#", "-T", f"{base}/d/no"]
    with Subscriber(context, *filters, "-F", "%t", version=version) as subscriber:
        subscriber.ready()
        for rest in ["a/c", "a/b/c", "/c", "d", "d/e/f", "d/no", "a/c/x", "dd"]:
            publish(context, "-t", f"{base}/{rest}", "-m", "x", version=version)
        publish(context, "-t", f"{base}/d/end", "-m", "x", version=version)
        expected = [f"{base}/{rest}" for rest in ["a/c", "/c", "d", "d/e/f", "d/end"]]
        check_equal(subscriber.take(len(expected)), expected, "topics")


@test(*GRID)
def retained_message_is_kept_replaced_and_cleared(context, version, qos):
    topic = context.topic("state")
    for value in ["old", "new"]:
        publish(context, "-t", topic, "-q", str(qos), "-r", "-m", value, version=version)
    with Subscriber(context, "-t", topic, "-q", "2", "-F", "%r %q %p", version=version) as subscriber:
        check_equal(subscriber.next(), f"1 {qos} new", "retained message")
        subscriber.ready()
        publish(context, "-t", topic, "-q", str(qos), "-r", "-m", "newer", version=version)
        check_equal(subscriber.next(), f"0 {qos} newer", "the same message to those already subscribed")
    publish(context, "-t", topic, "-q", str(qos), "-r", "-n", version=version)
    with Subscriber(context, "-t", topic, "-F", "%r %p", version=version) as subscriber:
        subscriber.ready()
        drained(context, topic, version)
        check_equal(subscriber.next(), "0 marker", "first message after the retained one was cleared")


@test(*VERSIONS)
def retained_messages_of_a_wildcard_all_come(context, version):
    base = context.topic("many")
    topics = sorted(f"{base}/{number}" for number in range(20))
    for topic in topics:
        publish(context, "-t", topic, "-r", "-m", "x", "-q", "1", version=version)
    arguments = ["-t", f"{base}/#", "-q", "1", "-F", "%r %t"]
    with Subscriber(context, *arguments, version=version) as subscriber:
        check_equal(sorted(subscriber.take(20)), [f"1 {topic}" for topic in topics], "retained messages")


@test(*GRID)
def will_is_published_when_the_connection_breaks(context, version, qos):
    topic = context.topic("will")
    will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", str(qos)]
    with Subscriber(context, "-t", topic, "-q", "2", "-F", "%q %r %p", version=version, role="watch") as watcher:
        watcher.ready()
        with Subscriber(context, "-t", context.topic("idle"), *will, version=version, role="dying") as dying:
            dying.ready()
            dying.kill()
            check_equal(watcher.next(), f"{qos} 0 gone", "will")


@test(*VERSIONS)
def retained_will_stays(context, version):
    topic = context.topic("will")
    will = ["--will-topic", topic, "--will-payload", "offline", "--will-retain", "--will-qos", "1"]
    with Subscriber(context, "-t", topic, "-q", "1", "-F", "%p", version=version, role="watch") as watcher:
        watcher.ready()
        with Subscriber(context, "-t", context.topic("idle"), *will, version=version, role="dying") as dying:
            dying.ready()
            dying.kill()
        watcher.next()
    with Subscriber(context, "-t", topic, "-F", "%r %p", version=version, role="late") as late:
        check_equal(late.next(), "1 offline", "retained will")


@test(*VERSIONS)
def will_is_dropped_on_disconnect(context, version):
    topic, goodbye = context.topic("will"), context.topic("goodbye")
    will = ["--will-topic", topic, "--will-payload", "gone"]
    with Subscriber(context, "-t", topic, "-F", "%p", version=version, role="watch") as watcher:
        watcher.ready()
        # With -C it leaves by itself after one message, with reason 0x00 in v5.
        with Subscriber(context, "-t", goodbye, "-C", "1", *will, version=version, role="leaving") as leaving:
            leaving.ready()
            publish(context, "-t", goodbye, "-m", "x", version=version)
            leaving.process.wait(PATIENCE)
        drained(context, topic, version)
        check_equal(watcher.next(), "marker", "first message after a clean disconnect")


@test()
def v5_will_is_published_when_the_disconnect_asks_for_it(context):
    topic = context.topic("will")
    will = ["--will-topic", topic, "--will-payload", "gone"]
    with Subscriber(context, "-t", topic, "-F", "%p", version="mqttv5", role="watch") as watcher:
        watcher.ready()
        with Subscriber(context, "-t", context.topic("idle"), *will, version="mqttv5", role="leaving") as leaving:
            leaving.ready()
            leaving.interrupt()
        check_equal(watcher.next(), "gone", "will")


@test(*VERSIONS)
def shared_subscription_gives_each_message_to_one_member(context, version):
    topic = context.topic("jobs")
    arguments = ["-t", f"$share/{context.client_id('group')}/{topic}", "-q", "1", "-F", "%p"]
    with contextlib.ExitStack() as stack:
        members = [
            stack.enter_context(Subscriber(context, *arguments, version=version, role=f"member{index}"))
            for index in range(3)
        ]
        for member in members:
            member.ready()
        lines = [f"job {number}" for number in range(90)]
        publish(context, "-t", topic, "-q", "1", "-l", version=version, stdin="\n".join(lines).encode())
        got = share_out(members, len(lines))
        check_equal(sorted(sum(got, [])), sorted(lines), "jobs of all members")
        check(all(got), f"a member got nothing: {[len(part) for part in got]}")


def share_out(members, count):
    """Reads the members in turn until they have `count` messages between them."""
    got = [[] for _ in members]
    idle = 0.0
    while sum(map(len, got)) < count:
        for member, part in zip(members, got, strict=True):
            with contextlib.suppress(queue.Empty):
                part.append(member.messages.get(timeout=0.05))
                idle = 0.0
        idle += 0.05
        check(idle < PATIENCE, f"only {[len(part) for part in got]} of {count} messages arrived")
    return got


@test(*[(version, qos) for version in VERSIONS for qos in [1, 2]])
def persistent_session_keeps_what_came_meanwhile(context, version, qos):
    topic = context.topic("mail")
    client_id = context.client_id("keeper")
    session = ["-c", "-q", "2", "-t", topic, "-F", "%q %p"]
    if version == "mqttv5":
        session += ["-x", "300"]
    with Subscriber(context, *session, version=version, client_id=client_id) as keeper:
        keeper.ready()
        keeper.interrupt()
    lines = [f"letter {number}" for number in range(10)]
    publish(context, "-t", topic, "-q", str(qos), "-l", version=version, stdin="\n".join(lines).encode())
    with Subscriber(context, *session, version=version, client_id=client_id) as keeper:
        check_equal(keeper.take(10), [f"{qos} {line}" for line in lines], "messages after the return")
    with Subscriber(context, "-q", "2", "-t", topic, "-F", "%p", version=version, client_id=client_id) as keeper:
        keeper.ready()
        drained(context, topic, version)
        check_equal(keeper.next(), "marker", "first message of a clean session")


@test(*[(version, qos) for version in ["mqttv311", "mqttv5"] for qos in QOS])
def request_gets_its_response(context, version, qos):
    question, answer = context.topic("question"), context.topic("answer")
    with Subscriber(context, "-t", question, "-q", str(qos), "-F", "%p|%R|%D", version=version) as responder:
        responder.ready()
        command = ["mosquitto_rr", "-h", HOST, "-p", str(context.port), "-V", version]
        command += ["-i", context.client_id("rr"), "-q", str(qos), "-t", question, "-e", answer, "-m", "2+2"]
        if version == "mqttv5":
            command += ["-D", "PUBLISH", "correlation-data", "sum-17"]
        requester = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            asked, response_topic, correlation = responder.next().split("|")
            check_equal(asked, "2+2", "question")
            properties = []
            if version == "mqttv5":
                check_equal((response_topic, correlation), (answer, "sum-17"), "request's properties")
                properties = ["-D", "PUBLISH", "correlation-data", correlation]
            publish(context, "-t", answer, "-q", str(qos), "-m", "4", *properties, version=version)
            output, _ = requester.communicate(timeout=PATIENCE)
            check_equal(output, b"4\n", "response")
        finally:
            requester.kill()
            requester.wait()


@test()
def v5_publish_properties_arrive(context):
    topic = context.topic("p")
    properties = {
        "content-type": "text/plain; charset=utf-8",
        "response-topic": "answers/here",
        "correlation-data": "c-42",
        "payload-format-indicator": "1",
    }
    arguments = [part for name, value in properties.items() for part in ("-D", "PUBLISH", name, value)]
    arguments += ["-D", "PUBLISH", "user-property", "one", "1", "-D", "PUBLISH", "user-property", "two", "2"]
    with Subscriber(context, "-t", topic, "-F", "%C|%R|%D|%F|%P|%p", version="mqttv5") as subscriber:
        subscriber.ready()
        publish(context, "-t", topic, "-m", "grüße", *arguments, version="mqttv5")
        expected = "text/plain; charset=utf-8|answers/here|c-42|1|one:1 two:2|grüße"
        check_equal(subscriber.next(), expected, "properties and payload")


@test()
def v5_retained_message_expires_in_steps(context):
    topic = context.topic("p")
    expiry = ["-D", "PUBLISH", "message-expiry-interval", "100"]
    publish(context, "-t", topic, "-r", "-q", "1", "-m", "x", *expiry, version="mqttv5")
    with Subscriber(context, "-t", topic, "-F", "%E %p", version="mqttv5") as subscriber:
        left, payload = subscriber.next().split(" ")
        check_equal(payload, "x", "payload")
        check(0 < int(left) <= 100, f"remaining expiry is {left}")


@test()
def v5_will_waits_for_its_delay(context):
    topic = context.topic("will")
    # 2.0.11 sends the delay only where the session outlives the connection.
    will = ["--will-topic", topic, "--will-payload", "gone", "-D", "WILL", "will-delay-interval", "2"]
    arguments = ["-t", context.topic("idle"), *will, "-c", "-x", "300"]
    with Subscriber(context, "-t", topic, "-q", "2", "-F", "%p", version="mqttv5", role="watch") as watcher:
        watcher.ready()
        with Subscriber(context, *arguments, version="mqttv5", role="dying") as dying:
            dying.ready()
            dying.kill()
        drained(context, topic, "mqttv5")
        check_equal(watcher.take(2), ["marker", "gone"], "messages around the delay")


@test(*VERSIONS)
def broker_tells_of_itself_under_sys(context, version):
    topics = [
        "version",
        "uptime",
        "clients/connected",
        "clients/total",
        "messages/received",
        "messages/sent",
        "bytes/received",
        "bytes/sent",
        "subscriptions/count",
        "retained messages/count",
        "publish/messages/received",
        "publish/messages/sent",
        "publish/messages/dropped",
    ]
    wanted = {f"$SYS/broker/{topic}" for topic in topics}
    with Subscriber(context, "-t", "$SYS/#", "-F", "%t", version=version) as subscriber:
        # They are published in rounds, by mosquitto only when they have changed.
        rounds = 0
        while wanted and rounds < 3:
            topic = subscriber.next()
            wanted.discard(topic)
            rounds += topic == "$SYS/broker/uptime"
        check(not wanted, f"missing in three rounds: {sorted(wanted)}")


@test(*VERSIONS)
def sys_topics_are_hidden_from_a_leading_wildcard(context, version):
    topic = context.topic("plain")
    publish(context, "-t", topic, "-r", "-m", "x", "-q", "1", version=version)
    with Subscriber(context, "-t", "#", "-t", "+/broker/uptime", "-F", "%t", version=version) as subscriber:
        seen = subscriber.next()
        while seen != topic:
            check(not seen.startswith("$"), f"{seen} matched a leading wildcard")
            seen = subscriber.next()
