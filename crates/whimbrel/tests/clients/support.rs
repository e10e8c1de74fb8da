//! A broker, and the clients as processes.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

/// `whimbrel serve` on a free port, killed at the end.
pub(crate) struct Server {
    child: Child,
    port: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(WHIMBREL)
            .args(["serve", "--in-memory", "--listen", "tcp://127.0.0.1:0"])
            .args(["--log", "warn"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let line = line_with(&mut stderr, "listening on tcp://127.0.0.1:");
        let (_, port) = line.rsplit_once(':').expect("found");
        Self {
            child,
            port: port.trim().to_owned(),
        }
    }

    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// Runs `whimbrel COMMAND` against the broker to its end.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Ended {
        self.run_with_input(command, arguments, b"")
    }

    pub(crate) fn run_with_input(&self, command: &str, arguments: &[&str], input: &[u8]) -> Ended {
        let program = Command::new(WHIMBREL);
        self.run_program(program, &[&[command], arguments].concat(), input)
    }

    /// Runs another program against the broker to its end.
    pub(crate) fn run_program(
        &self,
        mut program: Command,
        arguments: &[&str],
        input: &[u8],
    ) -> Ended {
        let child = program
            .args(arguments)
            .args(["-h", "127.0.0.1", "-p", &self.port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // A process that does not read it has gone, and the pipe with it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic");
        Ended {
            status: output.status.code().expect("no signal"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Publishes retained messages `x` to `r/0` and so on, on one connection: `pub` has one topic.
    pub(crate) fn retain(&self, count: usize) {
        let port: u16 = self.port.parse().expect("a port");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        // CONNECT of MQTT 3.1.1 with the client id "r".
        let mut packets = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01r".to_vec();
        for number in 0..count {
            let topic = format!("r/{number}");
            let length = u8::try_from(topic.len()).expect("short");
            packets.extend([0x31, 2 + length + 1, 0, length]);
            packets.extend_from_slice(topic.as_bytes());
            packets.push(b'x');
        }
        // PINGREQ: its answer comes after the others are taken.
        packets.extend([0xC0, 0]);
        stream.write_all(&packets).expect("it reads");
        let mut answers = [0; 6];
        stream
            .read_exact(&mut answers)
            .expect("CONNACK and PINGRESP");
        assert_eq!(answers, [0x20, 2, 0, 0, 0xD0, 0]);
    }

    /// Publishes, and wants it to be acknowledged.
    pub(crate) fn publish(&self, arguments: &[&str]) {
        let ended = self.run("pub", &[&["-q", "1"], arguments].concat());
        assert_eq!(ended.status, 0, "{arguments:?}: {}", ended.stderr);
    }

    /// Starts `whimbrel COMMAND -d`, and waits until standard error has `words`.
    pub(crate) fn start_client(&self, command: &str, arguments: &[&str], words: &str) -> Client {
        let child = Command::new(WHIMBREL)
            .arg(command)
            .args(arguments)
            .args(["-d", "-h", "127.0.0.1", "-p", &self.port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        line_with(&mut stderr, words);
        Client { child, stderr }
    }

    /// Starts `whimbrel sub`, and waits for its subscription.
    pub(crate) fn subscribe(&self, arguments: &[&str]) -> Client {
        self.start_client("sub", arguments, "subscribed to ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// A client that runs; killed at the end of a test that fails.
pub(crate) struct Client {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Client {
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for a line of standard error.
    pub(crate) fn wait_for(&mut self, words: &str) {
        line_with(&mut self.stderr, words);
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        drop(self.child.stdin.take());
        let mut stdout = Vec::new();
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_end(&mut stdout).expect("it can be read");
        }
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).expect("text");
        let status = self.child.wait().expect("it ends");
        Ended {
            status: status.code().expect("no signal"),
            stdout,
            stderr,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended, and what it said.
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    /// Wants this status and this output.
    pub(crate) fn expect(&self, status: i32, stdout: &str) {
        assert_eq!((self.status, self.text()), (status, stdout), "{self:?}");
    }

    /// Wants this status, and one line that holds each of `words`.
    pub(crate) fn fails(&self, status: i32, words: &[&str]) {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!((self.status, lines.len()), (status, 1), "{self:?}");
        assert!(self.stderr.starts_with("whimbrel: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word}: {self:?}");
        }
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended")
            .field("status", &self.status)
            .field("stdout", &String::from_utf8_lossy(&self.stdout))
            .field("stderr", &self.stderr)
            .finish()
    }
}

fn line_with(stderr: &mut BufReader<ChildStderr>, words: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let count = stderr.read_line(&mut line).expect("text");
        assert!(count > 0, "ended without {words:?}: {seen}");
        if line.contains(words) {
            return line;
        }
        seen.push_str(&line);
    }
}

pub(crate) const WHIMBREL: &str = env!("CARGO_BIN_EXE_whimbrel");
