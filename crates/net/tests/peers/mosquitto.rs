//! Debian's mosquitto with a listener for each transport.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread::JoinHandle,
};

use tempfile::TempDir;
use whimbrel_net::Address;

use crate::certificates::{Authority, Holder, Issued};

/// A running broker; it ends with this value.
pub(crate) struct Mosquitto {
    process: Child,
    log: Option<JoinHandle<()>>,
    folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) tcp: Address,
    pub(crate) tls: Address,
    /// Demands a client certificate.
    pub(crate) mutual_tls: Address,
    pub(crate) websocket: Address,
    pub(crate) secure_websocket: Address,
}

impl Mosquitto {
    /// Starts the broker and returns once it listens.
    pub(crate) fn start() -> Self {
        let program = program();
        let authority = Authority::new("CA");
        let issued = authority.issue(Holder::Server(&["localhost", "127.0.0.1"]));
        for _ in 0..STARTS_MAX {
            let folder = tempfile::tempdir().unwrap();
            let ports = free_ports();
            write_configuration(folder.path(), &authority, &issued, ports);
            let mut process = Command::new(&program)
                .arg("-c")
                .arg(folder.path().join("mosquitto.conf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let stderr = BufReader::new(process.stderr.take().unwrap());
            match wait_until_it_runs(stderr) {
                Ok(log) => {
                    let [tcp, tls, mutual_tls, websocket, secure_websocket] =
                        ports.map(|port| Address::from(SocketAddr::from(([127, 0, 0, 1], port))));
                    return Self {
                        process,
                        log: Some(log),
                        folder,
                        authority,
                        tcp,
                        tls,
                        mutual_tls,
                        websocket,
                        secure_websocket,
                    };
                }
                Err(printed) => {
                    process.wait().unwrap();
                    // Another process may have taken a port since it was found free.
                    let is_taken = printed.contains("Address already in use");
                    assert!(is_taken, "{} did not start: {printed}", program.display());
                }
            }
        }
        panic!("{STARTS_MAX} times a free port was taken before mosquitto had it");
    }

    pub(crate) fn unix_socket(&self) -> PathBuf {
        self.folder.path().join(UNIX_SOCKET)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian has it where the PATH of people who are not root does not lead.
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.is_file())
        .expect(
            "mosquitto is missing; install it: apt-get install --no-install-recommends mosquitto",
        )
}

/// Five at once, so that they differ.
fn free_ports() -> [u16; 5] {
    [(); 5]
        .map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|listener| listener.local_addr().unwrap().port())
}

fn write_configuration(folder: &Path, authority: &Authority, issued: &Issued, ports: [u16; 5]) {
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("server.pem"), &issued.certificate).unwrap();
    fs::write(folder.join("server.key"), &issued.key).unwrap();
    let [tcp, tls, mutual_tls, websocket, secure_websocket] = ports;
    let folder = folder.display();
    let certificate = format!("certfile {folder}/server.pem\nkeyfile {folder}/server.key\n");
    let configuration = format!(
        // Started by root it would become a user who can't read the key.
        "user root\n\
         per_listener_settings false\n\
         allow_anonymous true\n\
         log_dest stderr\n\
         listener {tcp} 127.0.0.1\n\
         listener 0 {folder}/{UNIX_SOCKET}\n\
         listener {tls} 127.0.0.1\n{certificate}\
         listener {mutual_tls} 127.0.0.1\n{certificate}\
         cafile {folder}/ca.pem\nrequire_certificate true\n\
         listener {websocket} 127.0.0.1\nprotocol websockets\n\
         listener {secure_websocket} 127.0.0.1\nprotocol websockets\n{certificate}"
    );
    fs::write(folder.to_string() + "/mosquitto.conf", configuration).unwrap();
}

/// Reads the log until the broker says that it runs, and goes on reading aside, so that it never
/// waits for a reader; what it printed if it ended instead.
fn wait_until_it_runs(mut log: BufReader<ChildStderr>) -> Result<JoinHandle<()>, String> {
    let mut printed = String::new();
    loop {
        let before = printed.len();
        if log.read_line(&mut printed).unwrap() == 0 {
            return Err(printed);
        }
        if printed[before..].trim_end().ends_with("running") {
            return Ok(std::thread::spawn(move || {
                let _ = std::io::copy(&mut log, &mut std::io::sink());
            }));
        }
    }
}

const UNIX_SOCKET: &str = "mosquitto.sock";
const STARTS_MAX: usize = 5;
