//! TLS that works.

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use whimbrel_net::{Address, Connect, Pem, Stream, TlsFault, TlsOptions, Transport};

use crate::{
    certificates::{Authority, Holder, Issued},
    servers::{TlsServer, Version, assert_echo, serve_one},
    tls_faults::{fault_of, fault_of_read},
};

const LOOPBACK: Holder<'_> = Holder::Server(&["127.0.0.1"]);

#[tokio::test]
async fn bytes_travel_both_ways_in_tiny_reads() {
    let authority = Authority::new("CA");
    for version in [Version::Tls12, Version::Tls13] {
        let server = TlsServer {
            version,
            ..TlsServer::default()
        };
        let server = server.echo(&authority.issue(LOOPBACK)).await;
        let tls = authority.trusted().build().unwrap();
        let stream = server.connect_tls(tls).await.unwrap();
        assert_echo(stream, 1_000_000, 7).await;
        server.end().await;
    }
}

#[tokio::test]
async fn shutdown_ends_the_writing_side_only() {
    let authority = Authority::new("CA");
    let server = TlsServer::default()
        .serve(&authority.issue(LOOPBACK), async |accepted| {
            let mut stream = accepted.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            stream.write_all(b"all of it came").await.unwrap();
            stream.shutdown().await.unwrap();
            received
        })
        .await;
    let tls = authority.trusted().build().unwrap();
    let mut stream = server.connect_tls(tls).await.unwrap();
    stream.write_all(b"half a conversation").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"all of it came");
    assert_eq!(server.end().await, b"half a conversation");
}

#[tokio::test]
async fn server_chooses_among_the_offered_protocols() {
    let authority = Authority::new("CA");
    for (offered, spoken, chosen) in [
        (
            ["mqtt", "x-amzn-mqtt-ca"],
            ["x-amzn-mqtt-ca"].as_slice(),
            Some("x-amzn-mqtt-ca"),
        ),
        (
            ["mqtt", "http/1.1"],
            &["http/1.1", "mqtt"],
            Some("http/1.1"),
        ),
        (["mqtt", "http/1.1"], &[], None),
    ] {
        let server = TlsServer {
            alpn: spoken,
            ..TlsServer::default()
        };
        let server = server.echo(&authority.issue(LOOPBACK)).await;
        let tls = authority.trusted().alpn(offered).build().unwrap();
        let stream = server.connect_tls(tls).await.unwrap();
        let protocol = stream.tls().unwrap().alpn_protocol();
        assert_eq!(protocol, chosen.map(str::as_bytes), "{offered:?}");
    }
}

#[tokio::test]
async fn server_without_any_offered_protocol_refuses() {
    let authority = Authority::new("CA");
    let server = TlsServer {
        alpn: &["http/1.1"],
        ..TlsServer::default()
    };
    let server = server.echo(&authority.issue(LOOPBACK)).await;
    let tls = authority.trusted().alpn(["mqtt"]).build().unwrap();
    let fault = fault_of(server.connect_tls(tls).await);
    assert_eq!(fault, TlsFault::NoCommonApplicationProtocol);
}

#[tokio::test]
async fn client_certificate_opens_a_server_that_demands_one() {
    let authority = Authority::new("CA");
    let clients = Authority::new("CA of clients");
    for version in [Version::Tls12, Version::Tls13] {
        let server = TlsServer {
            clients_of: Some(&clients),
            version,
            ..TlsServer::default()
        };
        let server = server.echo(&authority.issue(LOOPBACK)).await;
        let client = clients.issue(Holder::Client("device 7"));
        let tls = client.shown_by(authority.trusted()).build().unwrap();
        assert_echo(server.connect_tls(tls).await.unwrap(), 1_000, 100).await;
        server.end().await;
    }
}

/// Hosts behind one address are told apart by the name that is asked for.
#[tokio::test]
async fn server_name_replaces_the_host_of_the_address() {
    let authority = Authority::new("CA");
    let server = TlsServer::default()
        .serve(
            &authority.issue(Holder::Server(&["broker.example"])),
            async |accepted| {
                let stream = accepted.unwrap();
                stream.get_ref().1.server_name().map(str::to_owned)
            },
        )
        .await;
    let tls = authority.trusted().server_name("broker.example");
    let _stream = server.connect_tls(tls.build().unwrap()).await.unwrap();
    assert_eq!(server.end().await.as_deref(), Some("broker.example"));
}

#[tokio::test]
async fn host_name_of_the_address_is_asked_for() {
    let authority = Authority::new("CA");
    let server = TlsServer::default()
        .serve(
            &authority.issue(Holder::Server(&["localhost"])),
            async |accepted| {
                let stream = accepted.unwrap();
                stream.get_ref().1.server_name().map(str::to_owned)
            },
        )
        .await;
    let address: Address = format!("tcp://localhost:{}", server.port).parse().unwrap();
    let tls = authority.trusted().build().unwrap();
    let transport = Transport::Tls { address, tls };
    let _stream = Connect::default().connect(&transport).await.unwrap();
    assert_eq!(server.end().await.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn any_host_name_is_accepted_only_when_told_so_and_only_from_a_trusted_authority() {
    let authority = Authority::new("CA");
    let elsewhere = authority.issue(Holder::Server(&["elsewhere.example"]));
    let expired = authority.issue_in_years(&["elsewhere.example"], 2001, 2002);
    let any_host = || {
        let options = authority.trusted().dangerous();
        options.accept_any_host_name().build().unwrap()
    };
    for version in [Version::Tls12, Version::Tls13] {
        let server = TlsServer {
            version,
            ..TlsServer::default()
        };
        let accepted = server.echo(&elsewhere).await;
        assert_echo(accepted.connect_tls(any_host()).await.unwrap(), 1_000, 100).await;

        let refused = server.echo(&elsewhere).await;
        let strict = authority.trusted().build().unwrap();
        let fault = fault_of(refused.connect_tls(strict).await);
        assert_eq!(fault, TlsFault::WrongHost);

        let refused = server.echo(&expired).await;
        let fault = fault_of(refused.connect_tls(any_host()).await);
        assert_eq!(fault, TlsFault::Expired);

        let stranger = Authority::new("another CA").issue(LOOPBACK);
        let refused = server.echo(&stranger).await;
        let fault = fault_of(refused.connect_tls(any_host()).await);
        assert_eq!(fault, TlsFault::UnknownIssuer);
    }
}

/// The one server of a house needs no authority but itself.
#[tokio::test]
async fn self_signed_certificate_is_trusted_when_given() {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let issued = Issued {
        certificate: signed.cert.pem(),
        key: signed.signing_key.serialize_pem(),
    };
    let server = TlsServer::default().echo(&issued).await;
    let options = TlsOptions::new().ca(Pem::text(issued.certificate));
    let stream = server.connect_tls(options.build().unwrap()).await.unwrap();
    assert_echo(stream, 1_000, 100).await;
}

/// Whoever cuts the TCP connection can't make a stream look complete.
#[tokio::test]
async fn end_without_a_goodbye_is_an_error_after_the_bytes_that_came() {
    let authority = Authority::new("CA");
    let server = TlsServer::default()
        .serve(&authority.issue(LOOPBACK), async |accepted| {
            let mut stream = accepted.unwrap();
            stream.write_all(b"and then").await.unwrap();
            stream.flush().await.unwrap();
            let (mut tcp, _session) = stream.into_inner();
            tcp.shutdown().await.unwrap();
        })
        .await;
    let tls = authority.trusted().build().unwrap();
    let mut stream = server.connect_tls(tls).await.unwrap();
    let mut received = [0; 8];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"and then");
    assert_eq!(fault_of_read(&mut stream).await, TlsFault::Truncated);
}

#[tokio::test]
async fn writes_are_vectored() {
    let authority = Authority::new("CA");
    let server = TlsServer::default().echo(&authority.issue(LOOPBACK)).await;
    let tls = authority.trusted().build().unwrap();
    let mut stream = server.connect_tls(tls).await.unwrap();
    assert!(stream.is_write_vectored());
    let slices = [b"he".as_slice(), b"", b"llo"].map(std::io::IoSlice::new);
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 5);
    stream.flush().await.unwrap();
    let mut received = [0; 5];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
}

/// Keepalive and the user timeout are what finds a dead peer, with or without TLS on top.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn socket_options_hold_under_tls() {
    let authority = Authority::new("CA");
    let server = TlsServer::default().echo(&authority.issue(LOOPBACK)).await;
    let mut connect = Connect::default();
    connect.stream.user_timeout = Some(std::time::Duration::from_secs(77));
    let transport = Transport::Tls {
        address: server.address(),
        tls: authority.trusted().build().unwrap(),
    };
    let stream = connect.connect(&transport).await.unwrap();
    crate::servers::assert_options(&stream, &connect.stream);
}

/// The environment is the process's, so the half of the test that needs it runs in a second one.
#[test]
fn system_authorities_are_those_that_ssl_cert_file_names() {
    const PORT: &str = "WHIMBREL_NET_TEST_TLS_PORT";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Ok(port) = std::env::var(PORT) {
        let transport = Transport::Tls {
            address: format!("tcp://127.0.0.1:{port}").parse().unwrap(),
            tls: TlsOptions::new().build().unwrap(),
        };
        runtime.block_on(async {
            let stream = Connect::default().connect(&transport).await.unwrap();
            assert!(matches!(stream, Stream::Tls(_)));
        });
        return;
    }
    let authority = Authority::new("CA of the system");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    runtime.block_on(async {
        let acceptor = TlsServer::default().acceptor(&authority.issue(LOOPBACK));
        let server = serve_one(async move |tcp| acceptor.accept(tcp).await.is_ok()).await;
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "tls::system_authorities_are_those_that_ssl_cert_file_names",
            ])
            .env(PORT, server.port.to_string())
            .env("SSL_CERT_FILE", &ca)
            .env_remove("SSL_CERT_DIR")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = tokio::task::spawn_blocking(move || child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}");
        // Not one that ran no test.
        assert!(server.end().await);
    });
}
