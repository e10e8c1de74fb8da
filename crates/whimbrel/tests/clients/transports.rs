//! The clients over TLS, WebSocket and a Unix socket, with Debian's mosquitto at the other end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::support::{Ended, WHIMBREL};

/// mosquitto with a listener for each transport, killed at the end.
struct Mosquitto {
    child: Child,
    folder: TempDir,
    tls: u16,
    mutual_tls: u16,
    websocket: u16,
}

impl Mosquitto {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("room");
        write_certificates(folder.path());
        for _ in 0..STARTS_MAX {
            // Mosquitto takes no port 0.
            let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
            let [tls, mutual_tls, websocket] =
                listeners.map(|listener| listener.local_addr().expect("bound").port());
            let path = folder.path().display();
            let certificate = format!("certfile {path}/server.pem\nkeyfile {path}/server.key\n");
            let configuration = format!(
                // Started by root it would become a user who can't read the key.
                "user root\nallow_anonymous true\nlog_dest stderr\n\
                 listener {tls} 127.0.0.1\n{certificate}\
                 listener {mutual_tls} 127.0.0.1\n{certificate}cafile {path}/ca.crt\nrequire_certificate true\n\
                 listener {websocket} 127.0.0.1\nprotocol websockets\n\
                 listener 0 {path}/socket\n"
            );
            let file = folder.path().join("mosquitto.conf");
            fs::write(&file, configuration).expect("room");
            let mut child = Command::new(program())
                .arg("-c")
                .arg(&file)
                .stderr(Stdio::piped())
                .spawn()
                .expect("it runs");
            let mut log = BufReader::new(child.stderr.take().expect("piped"));
            let mut printed = String::new();
            while log.read_line(&mut printed).expect("text") > 0 {
                if printed.trim_end().ends_with("running") {
                    // It goes on logging, and is not to wait for a reader.
                    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                    return Self {
                        child,
                        folder,
                        tls,
                        mutual_tls,
                        websocket,
                    };
                }
            }
            child.wait().expect("it ends");
            // Another process may have taken a port since it was found free.
            assert!(printed.contains("Address already in use"), "{printed}");
        }
        panic!("{STARTS_MAX} times a free port was taken before mosquitto had it");
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("a name of text").to_owned()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has it where the PATH of people who are not root does not lead.
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.is_file())
        .expect(
            "mosquitto is not installed: run scripts/install-tools, or apt-get install mosquitto",
        )
}

/// `ca.crt`, `server.*` for localhost, and `client.*`; in the folder `other` the certificate of another authority.
fn write_certificates(folder: &Path) {
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("room");
    let authority = authority("CA");
    for (name, hosts, usage) in [
        (
            "server",
            vec!["localhost".to_owned()],
            ExtendedKeyUsagePurpose::ServerAuth,
        ),
        ("client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority).expect("it can sign");
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    write("ca.crt", authority.pem());
    fs::create_dir(folder.join("authorities")).expect("room");
    write("authorities/ca.crt", authority.pem());
    write("authorities/README", "no certificate".to_owned());
    write("other.crt", self::authority("another CA").pem());
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("it can sign")
}

fn run(arguments: &[&str]) -> Ended {
    let output = Command::new(WHIMBREL).args(arguments).output();
    let output = output.expect("the binary runs");
    Ended {
        status: output.status.code().expect("no signal"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

#[test]
fn messages_go_over_every_transport() {
    let mosquitto = Mosquitto::start();
    let ca = mosquitto.path("ca.crt");
    let authorities = mosquitto.path("authorities");
    let socket = mosquitto.path("socket");
    let tls = mosquitto.tls.to_string();
    let mutual_tls = mosquitto.mutual_tls.to_string();
    let certificate = mosquitto.path("client.pem");
    let key = mosquitto.path("client.key");
    let secure_url = format!("mqtts://localhost:{tls}");
    let websocket_url = format!("ws://127.0.0.1:{}/mqtt", mosquitto.websocket);
    let socket_url = format!("unix://{socket}");
    let over: [&[&str]; 9] = [
        &["-p", &tls, "--cafile", &ca],
        &["-p", &tls, "--capath", &authorities],
        &["-p", &tls, "--cafile", &ca, "--tls-alpn", "mqtt"],
        &["-h", "127.0.0.1", "-p", &tls, "--cafile", &ca, "--insecure"],
        &[&secure_url, "--cafile", &ca],
        &[
            "-p",
            &mutual_tls,
            "--cafile",
            &ca,
            "--cert",
            &certificate,
            "--key",
            &key,
        ],
        &["-L", &websocket_url],
        &["--unix", &socket],
        &[&socket_url],
    ];
    for (number, server) in over.into_iter().enumerate() {
        let payload = number.to_string();
        let publish = ["pub", "-t", "a", "-r", "-q", "1", "-m", &payload];
        run(&[&publish[..], server].concat()).expect(0, "");
        let subscribe = ["sub", "-t", "a", "-C", "1", "-F", "%r %p"];
        run(&[&subscribe[..], server].concat()).expect(0, &format!("1 {payload}\n"));
    }
}

#[test]
fn a_connection_that_can_not_be_trusted_is_not_made() {
    let mosquitto = Mosquitto::start();
    let ca = mosquitto.path("ca.crt");
    let other = mosquitto.path("other.crt");
    let empty = tempfile::tempdir().expect("room");
    let empty = empty.path().to_str().expect("a name of text");
    let tls = mosquitto.tls.to_string();
    let mutual_tls = mosquitto.mutual_tls.to_string();
    for (server, words) in [
        (
            &["-p", &*tls, "--cafile", &other][..],
            "authority unknown here",
        ),
        (
            &["-h", "127.0.0.1", "-p", &tls, "--cafile", &ca],
            "for another host",
        ),
        (&["-p", &mutual_tls, "--cafile", &ca], "client certificate"),
        (&["-p", &tls, "--capath", empty], "no .crt or .pem file"),
    ] {
        let ended = run(&[&["pub", "-t", "a", "-m", "x"], server].concat());
        ended.fails(1, &[words]);
    }
}

const STARTS_MAX: usize = 5;
