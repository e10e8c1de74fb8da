"""What the suites stand on: the broker as a process, tests as plain functions, and the report."""

import contextlib
import dataclasses
import itertools
import os
import queue
import re
import resource
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"

# How long any single wait may take on a machine that is busy with other things.
PATIENCE = 30.0
# How long a whole test may take before it is given up.
TEST_SECONDS = 240.0
# Open files of the broker and of this process: thousands of connections at once.
OPEN_FILES = 16_384


class Failure(AssertionError):
    """A test's own verdict, shown without a traceback."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(actual, expected, what):
    if actual != expected:
        raise Failure(f"{what}: expected {shorten(expected)}, got {shorten(actual)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}... ({len(text)} characters)"


def wait_until(condition, what, patience=PATIENCE):
    """Waits for something that no event announces, such as the memory of another process."""
    deadline = time.monotonic() + patience
    while not condition():
        check(time.monotonic() < deadline, f"not within {patience:.0f} s: {what}")
        time.sleep(0.05)


# Brokers


class Broker:
    """A broker process on a free loopback port, and what the system says of it."""

    def __init__(self, process, port, kind, log):
        self.process = process
        self.port = port
        self.kind = kind
        self.log = log

    @property
    def pid(self):
        return self.process.pid

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        """Stops the broker the polite way and returns its exit status."""
        if self.is_alive():
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("the broker did not stop on SIGTERM") from None


@dataclasses.dataclass
class Launcher:
    """Starts brokers of one kind."""

    kind: str
    binary: str
    extra: list
    folder: Path

    def start(self, arguments):
        """`arguments` are whimbrel's; mosquitto is started as it is."""
        if self.kind == "mosquitto":
            return self._start_mosquitto()
        return self._start_whimbrel(arguments)

    @contextlib.contextmanager
    def running(self, arguments=()):
        broker = self.start(arguments)
        try:
            yield broker
            check(broker.is_alive(), f"the broker died, see {broker.log}")
            status = broker.stop()
            check(status == 0, f"the broker exited with status {status}, see {broker.log}")
        finally:
            if broker.is_alive():
                broker.process.kill()
                broker.process.wait()

    def _start_whimbrel(self, arguments):
        command = [self.binary, "serve", "--listen", f"tcp://{HOST}:0", "--in-memory"]
        command += ["--shards", "2", "--sys-interval", "1", "--log", "info", *arguments, *self.extra]
        process, log = self._spawn(command)
        ready = re.compile(rf"listening on tcp://{re.escape(HOST)}:(\d+)")
        match = self._await_line(process, log, ready.search)
        return Broker(process, int(match.group(1)), self.kind, log)

    def _start_mosquitto(self):
        # Mosquitto takes no port 0; the port is free unless another process takes it within this millisecond.
        with socket.create_server((HOST, 0)) as probe:
            port = probe.getsockname()[1]
        config = self.folder / f"mosquitto-{port}.conf"
        config.write_text(
            f"listener {port} {HOST}\nallow_anonymous true\npersistence false\nlog_type all\nsys_interval 1\n",
            encoding="ascii",
        )
        process, log = self._spawn([self.binary, "-c", str(config)])
        self._await_line(process, log, lambda line: re.search(r"mosquitto version \S+ running", line))
        return Broker(process, port, self.kind, log)

    def _spawn(self, command):
        number, path = tempfile.mkstemp(prefix=f"{self.kind}-", suffix=".log", dir=self.folder)
        with os.fdopen(number, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return process, path

    @staticmethod
    def _await_line(process, log, is_ready):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            text = Path(log).read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                if match := is_ready(line):
                    return match
            if process.poll() is not None:
                raise SystemExit(f"error: the broker exited at once, it said:\n{text}")
            time.sleep(0.02)
        process.kill()
        raise SystemExit(f"error: the broker did not say that it listens, it said:\n{text}")


def raise_file_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# Tests


@dataclasses.dataclass
class Test:
    """A named function; `alone` means that it gets a broker of its own and runs with no other test."""

    name: str
    function: object
    case: tuple
    alone: bool
    arguments: tuple
    mosquitto_limit: str


@dataclasses.dataclass
class Context:
    """What a test is given: the broker, and names that no other test uses."""

    broker: Broker
    name: str

    @property
    def port(self):
        return self.broker.port

    def topic(self, rest):
        return f"{self._slug()}/{rest}"

    def client_id(self, role):
        # 3.1 allows 23 characters [MQTT-3.1 CONNECT]; the number keeps shortened names apart.
        return f"{role[:8]}-{next(_serial):x}"

    def _slug(self):
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower())


class Registry:
    """The tests of the suites, in the order in which they are written."""

    def __init__(self):
        self.tests = []

    def test(self, *cases, alone=False, arguments=(), mosquitto_limit=""):
        """Registers a function, once for each case: a tuple of its arguments that also names the test.

        `arguments` are for the whimbrel that a test has `alone`.
        `mosquitto_limit` is the documented reason for which Debian's mosquitto may fail it.
        """

        def register(function):
            suite = function.__module__.rpartition(".")[2]
            for case in cases or [()]:
                values = case if isinstance(case, tuple) else (case,)
                label = "".join(f" {part}" for part in values)
                name = f"{suite}: {function.__name__.replace('_', ' ')}{label}"
                self.tests.append(Test(name, function, values, alone, arguments, mosquitto_limit))
            return function

        return register


registry = Registry()
test = registry.test


class Report:
    """Counts the verdicts and prints one line for each."""

    def __init__(self, kind):
        self.kind = kind
        self.passed = 0
        self.failed = 0
        self.limits = 0
        self._lock = threading.Lock()

    def add(self, test, error, seconds):
        with self._lock:
            if error is None:
                self.passed += 1
                print(f"ok    {test.name} ({seconds:.1f} s)")
            elif self.kind == "mosquitto" and test.mosquitto_limit:
                self.limits += 1
                print(f"limit {test.name}: {test.mosquitto_limit}\n{_indent(error.splitlines()[-1])}")
            else:
                self.failed += 1
                print(f"FAIL  {test.name} ({seconds:.1f} s)\n{_indent(error)}")

    def summary(self):
        skipped = f", {self.limits} skipped" if self.limits else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def run_all(tests, launcher, workers):
    report = Report(launcher.kind)
    shared = [test for test in tests if not test.alone]
    if shared:
        with launcher.running() as broker, ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(lambda test: _run_one(test, broker, report), shared):
                pass
    for test in tests:
        if test.alone:
            _run_alone(test, launcher, report)
    return report


def _run_alone(test, launcher, report):
    started = time.monotonic()
    try:
        with launcher.running(test.arguments) as broker:
            error = _outcome(test, broker)
    except Failure as failure:
        error = error or str(failure)
    report.add(test, error, time.monotonic() - started)


def _run_one(test, broker, report):
    started = time.monotonic()
    report.add(test, _outcome(test, broker), time.monotonic() - started)


def _outcome(test, broker):
    """Runs the test on a thread that is given up when its time is over; None means that it passed."""
    results = queue.SimpleQueue()

    def body():
        try:
            test.function(Context(broker, test.name), *test.case)
            results.put(None)
        except Failure as failure:
            frame = traceback.extract_tb(failure.__traceback__)[1]
            results.put(f"{failure} ({Path(frame.filename).name}:{frame.lineno})")
        except BaseException:  # a test may fail in any way, and the report must say which
            results.put(traceback.format_exc())

    threading.Thread(target=body, name=test.name, daemon=True).start()
    try:
        return results.get(timeout=TEST_SECONDS)
    except queue.Empty:
        return f"not finished within {TEST_SECONDS:.0f} s"


def _indent(text):
    return "\n".join(f"      {line}" for line in text.rstrip().splitlines())


_serial = itertools.count(1)
