"""Real MQTT clients, and hostile ones, against a running broker."""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import harness

SUITES = [
    "mosquitto_clients",
    "paho_client",
    "aiomqtt_client",
    "gmqtt_client",
    "mqttjs_client",
    "wire_client",
    "abuse",
]


def main():
    options = parse_arguments()
    for suite in SUITES:
        importlib.import_module(f"suites.{suite}")
    tests = [test for test in harness.registry.tests if all(word in test.name for word in options.words)]
    if options.list:
        print("\n".join(test.name for test in tests))
        return 0
    if not tests:
        print("error: no test has all of these words in its name, see --list", file=sys.stderr)
        return 2
    harness.raise_file_limit()
    folder = Path(tempfile.mkdtemp(prefix="whimbrel-real-"))
    launcher = harness.Launcher(options.broker, find_binary(options.broker), options.broker_argument, folder)
    report = harness.run_all(tests, launcher, options.workers)
    if report.failed:
        print(f"the broker's logs are in {folder}")
    else:
        shutil.rmtree(folder)
    print(report.summary(), flush=True)
    # A thread that a test left behind is not waited for.
    os._exit(1 if report.failed else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests-real/run", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="run the tests whose names contain every WORD")
    parser.add_argument("--list", action="store_true", help="list the tests and run none")
    parser.add_argument(
        "--broker",
        choices=["whimbrel", "mosquitto"],
        default="whimbrel",
        help="what to test: the binary in WHIMBREL_BIN (target/release/whimbrel if not set), or Debian's mosquitto, "
        "to see whether a test itself is right",
    )
    parser.add_argument(
        "--broker-argument",
        action="append",
        default=[],
        metavar="ARG",
        help="a further argument for `whimbrel serve`, as in --broker-argument=--shards=4; may be repeated",
    )
    parser.add_argument("--workers", type=int, default=4, help="tests at a time on the shared broker (default 4)")
    return parser.parse_args()


def find_binary(broker):
    if broker == "mosquitto":
        path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if path is None:
            sys.exit("error: mosquitto is not installed, run tests-real/install.sh --with-mosquitto")
        return path
    built = harness.HERE.parent / "target" / "release" / "whimbrel"
    path = os.environ.get("WHIMBREL_BIN", str(built))
    if not os.access(path, os.X_OK):
        sys.exit(f"error: {path} is not there, run `cargo build --release -p whimbrel` or set WHIMBREL_BIN")
    return path


if __name__ == "__main__":
    sys.exit(main())
