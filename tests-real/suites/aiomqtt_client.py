"""aiomqtt, the asyncio client over paho, in 3.1.1 and 5."""

import asyncio

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import HOST, PATIENCE, check_equal, test

VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}
QOS = [0, 1, 2]


def client(context, version, role="aio", **options):
    return aiomqtt.Client(
        HOST,
        context.port,
        identifier=context.client_id(role),
        protocol=VERSIONS[version],
        timeout=PATIENCE,
        **options,
    )


async def payloads(messages, count):
    """The next `count` payloads."""
    got = []
    async with asyncio.timeout(PATIENCE):
        async for message in messages:
            got.append(message.payload)
            if len(got) == count:
                return got


@test(*[(version, qos) for version in VERSIONS for qos in QOS])
def messages_are_iterated_in_order(context, version, qos):
    topic = context.topic("x")
    expected = [f"message {number}".encode() for number in range(200)]

    async def scenario():
        async with client(context, version, "sub") as subscriber, client(context, version, "pub") as publisher:
            await subscriber.subscribe(topic, qos=qos)
            for payload in expected:
                await publisher.publish(topic, payload, qos=qos)
            check_equal(await payloads(subscriber.messages, len(expected)), expected, "payloads")

    asyncio.run(scenario())


@test(*VERSIONS)
def concurrent_publishers_lose_nothing(context, version):
    topic = context.topic("x")
    publishers, each = 8, 50

    async def publish(number):
        async with client(context, version, f"pub{number}") as publisher:
            for index in range(each):
                await publisher.publish(topic, f"{number}:{index}", qos=1)

    async def scenario():
        async with client(context, version, "sub") as subscriber:
            await subscriber.subscribe(topic, qos=1)
            async with asyncio.TaskGroup() as group:
                for number in range(publishers):
                    group.create_task(publish(number))
                got = await payloads(subscriber.messages, publishers * each)
        for number in range(publishers):
            mine = [text for text in got if text.startswith(b"%d:" % number)]
            check_equal(mine, [b"%d:%d" % (number, index) for index in range(each)], f"messages of publisher {number}")

    asyncio.run(scenario())


@test(*VERSIONS)
def retained_message_greets_a_subscriber(context, version):
    topic = context.topic("state")

    async def scenario():
        async with client(context, version) as one:
            await one.publish(topic, b"on", qos=1, retain=True)
        async with client(context, version) as two:
            await two.subscribe(topic, qos=1)
            check_equal(await payloads(two.messages, 1), [b"on"], "retained message")

    asyncio.run(scenario())


@test(*VERSIONS)
def will_is_dropped_when_the_context_ends(context, version):
    topic = context.topic("will")

    async def scenario():
        async with client(context, version, "watch") as watcher:
            await watcher.subscribe(topic, qos=1)
            async with client(context, version, "leaving", will=aiomqtt.Will(topic, b"gone", qos=1)):
                pass
            await watcher.publish(topic, b"marker", qos=1)
            check_equal(await payloads(watcher.messages, 1), [b"marker"], "first message")

    asyncio.run(scenario())


@test()
def user_properties_arrive(context):
    topic = context.topic("x")
    pairs = [("trace", "a1"), ("trace", "a2")]

    async def scenario():
        async with client(context, "5") as one:
            await one.subscribe(topic, qos=1)
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = pairs
            properties.CorrelationData = b"\0\1"
            await one.publish(topic, b"x", qos=1, properties=properties)
            async with asyncio.timeout(PATIENCE):
                message = await anext(aiter(one.messages))
            check_equal(message.properties.UserProperty, pairs, "user properties")
            check_equal(message.properties.CorrelationData, b"\0\1", "correlation data")

    asyncio.run(scenario())
