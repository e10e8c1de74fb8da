//! [`Kind`]: the brokers that are known: how each is found, installed, configured and started.
//!
//! All are anonymous, on loopback, without a log and without limits that would make them drop what they are given: such
//! limits look like faults.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::workloads::{Needs, Workload};

/// A broker that is known, or a setting of one.
#[derive(Debug)]
pub(super) struct Kind {
    /// As on the command line.
    pub(super) name: &'static str,
    /// As in tables.
    pub(super) title: &'static str,
    program: Program,
    /// How to get it.
    pub(super) install: &'static str,
    /// Whether it is taken where none are named.
    pub(super) is_default: bool,
    has_qos2: bool,
    has_v5: bool,
}

/// What is started, and how it is told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// The release build, with these arguments more.
    Whimbrel(&'static [&'static str]),
    Mosquitto,
    Nats,
    Rumqttd,
    Aedes,
}

/// A broker that is installed.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub(super) kind: &'static Kind,
    /// Its program; for Aedes the folder of packages that it is in.
    path: PathBuf,
    pub(super) version: String,
}

/// The version of MQTT that a run speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V311,
    V5,
}

impl Kind {
    /// Looks for it, among the folders of programs and where its package puts it; `whimbrel` is our own binary.
    pub(super) fn find(&'static self, whimbrel: &Path) -> Option<Broker> {
        let path = match self.program {
            Program::Whimbrel(_) => whimbrel.is_file().then(|| whimbrel.to_owned()),
            Program::Mosquitto => program("mosquitto", &path_folders()),
            Program::Nats => program("nats-server", &path_folders()),
            Program::Rumqttd => program("rumqttd", &path_folders()),
            Program::Aedes => node_packages("aedes"),
        }?;
        Some(Broker {
            kind: self,
            version: version(self.program, &path).unwrap_or_else(|| "unknown".to_owned()),
            path,
        })
    }

    /// Why it can't do a workload, if it can't.
    pub(super) fn lacks(&self, workload: &Workload) -> Option<&'static str> {
        match workload.needs {
            Needs::QoS2 if !self.has_qos2 => Some("no QoS 2"),
            Needs::V5 if !self.has_v5 => Some("no MQTT 5"),
            _ => None,
        }
    }

    /// Whether it is Whimbrel, in any setting.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.program, Program::Whimbrel(_))
    }
}

impl Broker {
    /// The command that starts it on this port of loopback, with a folder of its own.
    ///
    /// # Errors
    ///
    /// When its configuration can't be written there.
    pub(super) fn command(
        &self,
        port: u16,
        version: Version,
        folder: &Path,
    ) -> io::Result<Command> {
        let mut command = match self.kind.program {
            Program::Aedes => Command::new("node"),
            _ => Command::new(&self.path),
        };
        match self.kind.program {
            Program::Whimbrel(settings) => {
                let listen = format!("tcp://127.0.0.1:{port}");
                command.args(["serve", "--log", "error", "--listen", &listen]);
                command.args(settings);
                if !settings.contains(&"--in-memory") {
                    command.arg("--data-dir").arg(folder.join("data"));
                }
            }
            Program::Mosquitto => {
                let path = folder.join("mosquitto.conf");
                fs::write(&path, mosquitto(port))?;
                command.arg("-c").arg(path);
            }
            Program::Nats => {
                let path = folder.join("nats.conf");
                fs::write(&path, nats(port, folder))?;
                command.arg("--config").arg(path);
            }
            Program::Rumqttd => {
                let path = folder.join("rumqttd.toml");
                fs::write(&path, rumqttd(port, version))?;
                command.arg("--config").arg(path).arg("--quiet");
            }
            Program::Aedes => {
                // Node looks for what a module imports upwards from where it is, so the packages are linked beside it.
                let path = folder.join("aedes.mjs");
                fs::write(&path, AEDES)?;
                link(&self.path, &folder.join("node_modules"))?;
                command.arg(path).arg(port.to_string());
            }
        }
        command.current_dir(folder);
        Ok(command)
    }
}

/// The broker of this name.
pub(super) fn named(name: &str) -> Result<&'static Kind, String> {
    let found = KINDS.iter().find(|kind| kind.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        format!("there is no such broker; there are {}", names.join(", "))
    })
}

/// All of them, in the order of tables. The first is Whimbrel as it comes.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "whimbrel",
        title: "Whimbrel",
        program: Program::Whimbrel(&["--in-memory", "--shards", "2"]),
        install: WHIMBREL,
        is_default: true,
        has_qos2: true,
        has_v5: true,
    },
    Kind {
        name: "whimbrel-1",
        title: "Whimbrel, 1 shard",
        program: Program::Whimbrel(&["--in-memory", "--shards", "1"]),
        install: WHIMBREL,
        is_default: true,
        has_qos2: true,
        has_v5: true,
    },
    Kind {
        name: "whimbrel-8",
        title: "Whimbrel, 8 shards",
        program: Program::Whimbrel(&["--in-memory", "--shards", "8"]),
        install: WHIMBREL,
        is_default: false,
        has_qos2: true,
        has_v5: true,
    },
    Kind {
        name: "whimbrel-durable",
        title: "Whimbrel, durable",
        program: Program::Whimbrel(&["--shards", "2"]),
        install: WHIMBREL,
        is_default: true,
        has_qos2: true,
        has_v5: true,
    },
    Kind {
        name: REFERENCE,
        title: "mosquitto",
        program: Program::Mosquitto,
        install: "apt-get install mosquitto, or what your system calls it",
        is_default: true,
        has_qos2: true,
        has_v5: true,
    },
    Kind {
        name: "nats",
        title: "nats-server",
        program: Program::Nats,
        install: "apt-get install nats-server",
        is_default: true,
        has_qos2: false,
        has_v5: false,
    },
    Kind {
        name: "rumqttd",
        title: "rumqttd",
        program: Program::Rumqttd,
        install: "cargo install rumqttd",
        is_default: true,
        has_qos2: true,
        has_v5: true,
    },
    Kind {
        name: "aedes",
        title: "aedes",
        program: Program::Aedes,
        install: "npm install --global aedes, with Node 20 or later",
        is_default: true,
        has_qos2: true,
        has_v5: false,
    },
];

/// The broker that others are compared with.
pub(super) const REFERENCE: &str = "mosquitto";

fn mosquitto(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\n\
         max_queued_messages 0\nmax_queued_bytes 0\nlog_type none\nset_tcp_nodelay true\n"
    )
}

fn nats(port: u16, folder: &Path) -> String {
    // A client port of its own is wanted too, by the number -1 any.
    format!(
        "server_name: bench\nhost: 127.0.0.1\nport: -1\njetstream {{ store_dir: {:?} }}\n\
         mqtt {{ host: 127.0.0.1, port: {port}, max_ack_pending: 65535 }}\n",
        folder.join("jetstream")
    )
}

fn rumqttd(port: u16, version: Version) -> String {
    let table = match version {
        Version::V311 => "v4",
        Version::V5 => "v5",
    };
    format!(
        "id = 0\n\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200000\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\n[{table}.1]\nname = \"bench\"\n\
         listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n\n[{table}.1.connections]\n\
         connection_timeout_ms = 60000\nmax_payload_size = 268435455\nmax_inflight_count = 60000\n\
         dynamic_filters = true\n"
    )
}

const AEDES: &str = "import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker({ concurrency: 100, queueLimit: 1_000_000, maxInflightInbound: 0 })
const server = createServer({ noDelay: true }, broker.handle)
server.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 })
";

/// Folders where programs are: those of `PATH`, and those that only an administrator has in it.
fn path_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    folders.extend(SYSTEM_FOLDERS.map(PathBuf::from));
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    folders.extend(home.map(|home| home.join("bin")));
    folders
}

/// The first of these folders' programs that has this name.
fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let mut paths = folders.iter().map(|folder| folder.join(name));
    paths.find(|path| path.is_file())
}

/// The folder of packages of Node that this package is in: `NODE_PATH`'s, or that of `npm install --global`.
fn node_packages(name: &str) -> Option<PathBuf> {
    program("node", &path_folders())?;
    let listed = env::var_os("NODE_PATH").unwrap_or_default();
    let global = told(Command::new("npm").args(["root", "--global"]));
    let folders = env::split_paths(&listed).chain(global.map(PathBuf::from));
    let mut folders = folders.filter(|folder| folder.join(name).is_dir());
    folders.next()
}

fn version(program: Program, path: &Path) -> Option<String> {
    match program {
        Program::Whimbrel(_) | Program::Rumqttd => told(Command::new(path).arg("--version")),
        Program::Nats => told(Command::new(path).arg("--version")),
        // It has no option that prints its version alone.
        Program::Mosquitto => told(Command::new(path).arg("-h")),
        Program::Aedes => {
            let text = fs::read_to_string(path.join("aedes").join("package.json")).ok()?;
            let package: serde_json::Value = serde_json::from_str(&text).ok()?;
            let version = package.get("version")?.as_str()?;
            let node = told(Command::new("node").arg("--version"))?;
            Some(format!("aedes {version} on node {node}"))
        }
    }
}

/// The first line of what a command says, whatever its exit status is.
fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
const WHIMBREL: &str = "cargo build --release, which this task does itself";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench_brokers::workloads;

    #[test]
    fn every_broker_has_a_name_of_its_own_and_the_reference_is_one() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(names.contains(REFERENCE));
    }

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let root = tempfile::tempdir().expect("a folder");
        let folders: Vec<_> = ["a", "b", "c"].map(|name| root.path().join(name)).into();
        for folder in &folders[1..] {
            fs::create_dir(folder).expect("a folder");
            fs::write(folder.join("broker"), "").expect("a file");
        }
        // A folder of that name is no program.
        fs::create_dir_all(folders[0].join("broker")).expect("a folder");
        assert_eq!(program("broker", &folders), Some(folders[1].join("broker")));
        assert_eq!(program("other", &folders), None);
    }

    #[test]
    fn own_settings_are_found_with_the_binary_and_only_then() {
        let root = tempfile::tempdir().expect("a folder");
        let kind = named("whimbrel").expect("a broker");
        assert!(kind.find(&root.path().join("whimbrel")).is_none());
    }

    #[test]
    fn a_broker_is_not_asked_for_what_it_lacks() {
        let lacks = |broker, workload| {
            let workload = workloads::named(workload).expect("a workload");
            named(broker).expect("a broker").lacks(workload)
        };
        assert_eq!(lacks("nats", "pairs10-q2"), Some("no QoS 2"));
        assert_eq!(lacks("aedes", "shared10-q1"), Some("no MQTT 5"));
        assert_eq!(lacks("mosquitto", "shared10-q1"), None);
        assert_eq!(lacks("nats", "pairs10-q1"), None);
    }

    #[test]
    fn only_what_is_durable_has_a_folder_for_data() {
        let folder = Path::new("/somewhere");
        let arguments = |name| {
            let broker = Broker {
                kind: named(name).expect("a broker"),
                path: "whimbrel".into(),
                version: String::new(),
            };
            let command = broker.command(1883, Version::V5, folder).expect("no file");
            let words = command.get_args().map(|word| word.to_string_lossy());
            words.collect::<Vec<_>>().join(" ")
        };
        assert!(!arguments("whimbrel").contains("--data-dir"));
        assert!(arguments("whimbrel-durable").contains("--data-dir /somewhere/data"));
        assert!(arguments("whimbrel-8").contains("--shards 8"));
    }
}
