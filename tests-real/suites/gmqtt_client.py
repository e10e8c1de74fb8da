"""gmqtt, an asyncio client with a codec of its own, in 5."""

import asyncio
import logging

import gmqtt
from gmqtt.mqtt.constants import MQTTv50

from harness import HOST, PATIENCE, check, check_equal, test

QOS = [0, 1, 2]
# gmqtt has no more packet ids than the server's receive maximum, 20 with mosquitto, and raises when they are used up.
# An acknowledgement may lag behind the delivery, so two such windows must fit.
WINDOW = 8
# What gmqtt says on its way out is no news: the tests judge by what arrives.
logging.getLogger("gmqtt").setLevel(logging.CRITICAL)


class Client:
    """A gmqtt client with a queue where gmqtt has callbacks."""

    def __init__(self, context, role="gm", client_id=None, clean=True, will=None, **connect_properties):
        self.port = context.port
        self.client_id = client_id or context.client_id(role)
        self.messages = asyncio.Queue()
        self.subscribed = asyncio.Queue()
        self.gmqtt = gmqtt.Client(self.client_id, clean_session=clean, will_message=will, **connect_properties)
        # It reconnects for ever at -1, once at 0, and never below.
        self.gmqtt.set_config({"reconnect_retries": -2})
        self.gmqtt.on_message = self._on_message
        self.gmqtt.on_subscribe = lambda _client, mid, qos, _properties: self.subscribed.put_nowait((mid, qos))

    async def __aenter__(self):
        async with asyncio.timeout(PATIENCE):
            await self.gmqtt.connect(HOST, self.port, version=MQTTv50)
        return self

    async def __aexit__(self, *_):
        await self.gmqtt.disconnect()

    async def subscribe(self, topic, qos):
        """Subscribes, waits for the SUBACK and returns its codes."""
        mid = self.gmqtt.subscribe(gmqtt.Subscription(topic, qos=qos))
        async with asyncio.timeout(PATIENCE):
            answered, granted = await self.subscribed.get()
        check_equal(answered, mid, "packet id of the SUBACK")
        return list(granted)

    async def next(self):
        async with asyncio.timeout(PATIENCE):
            return await self.messages.get()

    async def take(self, count):
        return [await self.next() for _ in range(count)]

    def _on_message(self, _client, topic, payload, qos, properties):
        self.messages.put_nowait((topic, bytes(payload), qos, properties))
        return 0


@test(*QOS)
def messages_arrive_in_order(context, qos):
    topic = context.topic("x")

    async def scenario():
        async with Client(context, "sub") as subscriber, Client(context, "pub") as publisher:
            check_equal(await subscriber.subscribe(topic, qos), [qos], "granted QoS")
            got = []
            for start in range(0, 100, WINDOW):
                window = range(start, min(start + WINDOW, 100))
                for number in window:
                    publisher.gmqtt.publish(topic, f"{number}", qos=qos)
                got += await subscriber.take(len(window))
            check_equal([(int(payload), at) for _, payload, at, _ in got], [(n, qos) for n in range(100)], "messages")

    asyncio.run(scenario())


@test(*[(qos, size) for qos in QOS for size in (0, 127, 128, 16_384, 200_000)])
def payload_arrives_unchanged(context, qos, size):
    topic = context.topic("x")
    payload = bytes(index * 11 % 256 for index in range(size))

    async def scenario():
        async with Client(context) as client:
            await client.subscribe(topic, qos)
            client.gmqtt.publish(topic, payload, qos=qos)
            _, got, _, _ = await client.next()
            check(got == payload, f"{size} bytes came as {len(got)} others")

    asyncio.run(scenario())


@test()
def properties_arrive(context):
    topic = context.topic("x")

    async def scenario():
        async with Client(context) as client:
            await client.subscribe(topic, 1)
            client.gmqtt.publish(
                topic,
                b"x",
                qos=1,
                user_property=[("a", "1"), ("a", "2")],
                correlation_data=b"\0\xff",
                content_type="text/plain",
                response_topic="somewhere",
                message_expiry_interval=60,
            )
            _, _, _, got = await client.next()
            check_equal(got["user_property"], [("a", "1"), ("a", "2")], "user properties")
            check_equal(got["correlation_data"], [b"\0\xff"], "correlation data")
            check_equal(got["content_type"], ["text/plain"], "content type")
            check_equal(got["response_topic"], ["somewhere"], "response topic")
            check(0 < got["message_expiry_interval"][0] <= 60, f"expiry {got['message_expiry_interval']}")

    asyncio.run(scenario())


@test(1, 2)
def session_keeps_what_came_meanwhile(context, qos):
    topic = context.topic("x")

    async def scenario():
        async with Client(context, "keeper", clean=False, session_expiry_interval=300) as client:
            await client.subscribe(topic, qos)
        async with Client(context, "pub") as publisher:
            for number in range(WINDOW):
                publisher.gmqtt.publish(topic, f"{number}", qos=qos)
            # gmqtt can't be asked whether a publish was acknowledged; an own message behind them tells it.
            await publisher.subscribe(topic + "/end", 2)
            publisher.gmqtt.publish(topic + "/end", b"", qos=qos)
            await publisher.next()
        client_id = client.client_id
        async with Client(context, client_id=client_id, clean=False, session_expiry_interval=300) as again:
            got = [int(payload) for _, payload, _, _ in await again.take(WINDOW)]
            check_equal(got, list(range(WINDOW)), "messages after the return")

    asyncio.run(scenario())


@test()
def retained_message_and_will_arrive(context):
    state, will = context.topic("state"), context.topic("will")

    async def scenario():
        async with Client(context) as client:
            client.gmqtt.publish(state, b"on", qos=1, retain=True)
            await client.subscribe(state, 1)
            _, payload, _, properties = await client.next()
            check_equal((payload, properties["retain"]), (b"on", 1), "retained message")
            await client.subscribe(will, 1)
            dying = Client(context, will=gmqtt.Message(will, b"gone", qos=1))
            await dying.__aenter__()
            dying.gmqtt._connection._transport.abort()
            _, payload, _, _ = await client.next()
            check_equal(payload, b"gone", "will")

    asyncio.run(scenario())
