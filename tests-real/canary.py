"""An innocent client in a process of its own: canary.py PORT

Until its standard input ends, it publishes to itself at QoS 1 and opens a further connection, again and again. Then it
prints the number of rounds and the longest time that each of the two took, in seconds.
"""

import select
import sys
import time

import wire


def main():
    port = int(sys.argv[1])
    topic = f"canary/{port}"
    rounds = 0
    slowest_message = slowest_connect = 0.0
    with wire.Wire(port) as client:
        client.connect("canary")
        client.subscribe([topic], qos=1)
        print("ready", flush=True)
        while True:
            started = time.monotonic()
            client.send(wire.publish(topic, b"tick", qos=1))
            # The acknowledgement and the message come in either order.
            kinds = set()
            while len(kinds) < 2:
                got = client.packet()
                if got is None:
                    sys.exit("the canary's connection was closed")
                kinds.add(got.type)
                if got.type == wire.PUBLISH:
                    at = 2 + len(topic)
                    client.send(wire.packet(wire.PUBACK, 0, got.body[at : at + 2]))
            slowest_message = max(slowest_message, time.monotonic() - started)
            started = time.monotonic()
            with wire.Wire(port) as visitor:
                visitor.connect("")
                visitor.disconnect()
            slowest_connect = max(slowest_connect, time.monotonic() - started)
            rounds += 1
            if select.select([sys.stdin], [], [], 0.02)[0]:
                break
    print(rounds, slowest_message, slowest_connect)


if __name__ == "__main__":
    main()
