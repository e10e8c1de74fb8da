"""MQTT.js: each scenario of node/scenarios.mjs is a process of its own."""

import subprocess

from harness import HERE, TEST_SECONDS, Failure, test

# By the protocol's level in CONNECT.
VERSIONS = [3, 4, 5]
SCENARIOS = ["sizes", "order", "retained", "will", "session", "shared", "unsubscribe"]
V5_SCENARIOS = ["properties", "request"]


@test(*[(version, name) for version in VERSIONS for name in SCENARIOS], *[(5, name) for name in V5_SCENARIOS])
def scenario_passes_at_level(context, version, name):
    command = ["node", "scenarios.mjs", str(context.port), str(version), context.topic("x"), name]
    done = subprocess.run(
        command, cwd=HERE / "node", stdin=subprocess.DEVNULL, capture_output=True, timeout=TEST_SECONDS, check=False
    )
    if done.returncode != 0:
        raise Failure(done.stderr.decode("utf-8", "replace")[-2_000:])
