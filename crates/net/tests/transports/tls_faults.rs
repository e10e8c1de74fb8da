//! TLS that fails: each cause has its own fault, and says what to do.

use std::{error::Error, io};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use whimbrel_net::{Connect, ConnectError, Stream, TlsError, TlsFault, TlsOptions, Transport};

use crate::{
    certificates::{Authority, Holder, Issued},
    servers::{TlsServer, Version, serve_one},
};

const LOOPBACK: Holder<'_> = Holder::Server(&["127.0.0.1"]);

pub(crate) fn fault_of(result: Result<Stream, ConnectError>) -> TlsFault {
    match result {
        Err(ConnectError::Tls { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// The fault inside the error of the next read.
pub(crate) async fn fault_of_read(stream: &mut Stream) -> TlsFault {
    let error = stream.read_u8().await.unwrap_err();
    let error: &TlsError = error.get_ref().unwrap().downcast_ref().unwrap();
    assert!(error.source().is_some(), "the cause is kept");
    error.fault()
}

/// What a client that trusts `authority` finds wrong with a server that shows `issued`.
async fn fault_with(authority: &Authority, issued: &Issued) -> TlsFault {
    let server = TlsServer::default().echo(issued).await;
    let tls = authority.trusted().build().unwrap();
    fault_of(server.connect_tls(tls).await)
}

#[tokio::test]
async fn certificate_for_another_host_is_refused() {
    let authority = Authority::new("CA");
    for names in [["elsewhere.example"].as_slice(), &["127.0.0.2"], &[]] {
        let issued = authority.issue(Holder::Server(names));
        assert_eq!(
            fault_with(&authority, &issued).await,
            TlsFault::WrongHost,
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn certificate_of_an_unknown_authority_is_refused() {
    let issued = Authority::new("CA").issue(LOOPBACK);
    // An authority of the same name is another one all the same.
    for name in ["another CA", "CA"] {
        let fault = fault_with(&Authority::new(name), &issued).await;
        assert_eq!(fault, TlsFault::UnknownIssuer, "{name}");
    }
}

#[tokio::test]
async fn certificate_of_another_time_is_refused() {
    let authority = Authority::new("CA");
    for (from, to, fault) in [
        (2001, 2002, TlsFault::Expired),
        (3001, 3002, TlsFault::NotValidYet),
    ] {
        let issued = authority.issue_in_years(&["127.0.0.1"], from, to);
        assert_eq!(fault_with(&authority, &issued).await, fault);
    }
}

/// What `openssl req -x509` makes is the certificate of a CA, and often used for the server itself.
#[tokio::test]
async fn certificate_of_a_ca_is_not_that_of_a_server() {
    let authority = Authority::new("CA");
    let fault = fault_with(&authority, &authority.itself()).await;
    assert_eq!(fault, TlsFault::AuthorityAsServer);
}

#[tokio::test]
async fn certificate_of_a_client_is_not_that_of_a_server() {
    let authority = Authority::new("CA");
    let fault = fault_with(&authority, &authority.issue(Holder::Client("device"))).await;
    assert_eq!(fault, TlsFault::UnusableCertificate);
}

#[tokio::test]
async fn tls_1_3_server_demands_a_client_certificate_at_the_first_read() {
    let authority = Authority::new("CA");
    let server = TlsServer {
        clients_of: Some(&authority),
        ..TlsServer::default()
    };
    let server = server.echo(&authority.issue(LOOPBACK)).await;
    let tls = authority.trusted().build().unwrap();
    let mut stream = server.connect_tls(tls).await.unwrap();
    assert_eq!(
        fault_of_read(&mut stream).await,
        TlsFault::ClientCertificateRequired
    );
}

#[tokio::test]
async fn tls_1_2_server_demands_a_client_certificate_in_the_handshake() {
    let authority = Authority::new("CA");
    let server = TlsServer {
        clients_of: Some(&authority),
        version: Version::Tls12,
        ..TlsServer::default()
    };
    let server = server.echo(&authority.issue(LOOPBACK)).await;
    let tls = authority.trusted().build().unwrap();
    let fault = fault_of(server.connect_tls(tls).await);
    assert_eq!(fault, TlsFault::ClientCertificateRequired);
}

#[tokio::test]
async fn client_certificate_of_an_unknown_authority_is_refused() {
    let authority = Authority::new("CA");
    let server = TlsServer {
        clients_of: Some(&authority),
        ..TlsServer::default()
    };
    let server = server.echo(&authority.issue(LOOPBACK)).await;
    let stranger = Authority::new("another CA").issue(Holder::Client("device 7"));
    let tls = stranger.shown_by(authority.trusted()).build().unwrap();
    let mut stream = server.connect_tls(tls).await.unwrap();
    assert_eq!(
        fault_of_read(&mut stream).await,
        TlsFault::ClientCertificateRefused
    );
}

#[tokio::test]
async fn server_that_does_not_speak_tls_is_told_from_one_that_hangs_up() {
    for (answer, fault) in [
        (b"220 mail.example ESMTP\r\n".as_slice(), TlsFault::NotTls),
        (b"", TlsFault::EndedInHandshake),
    ] {
        let server = serve_one(async move |mut tcp| {
            // Enough of the ClientHello that closing does not reset the connection.
            let mut hello = [0; 5];
            tcp.read_exact(&mut hello).await.unwrap();
            let length = u16::from_be_bytes([hello[3], hello[4]]);
            tcp.read_exact(&mut vec![0; usize::from(length)])
                .await
                .unwrap();
            tcp.write_all(answer).await.unwrap();
        })
        .await;
        let tls = Authority::new("CA").trusted().build().unwrap();
        assert_eq!(fault_of(server.connect_tls(tls).await), fault);
    }
}

/// Resolvers take `127.1` for an address; it is neither that nor a DNS name in a certificate.
#[tokio::test]
async fn host_that_no_certificate_can_name_needs_a_server_name() {
    let authority = Authority::new("CA");
    let transport = |tls: TlsOptions, port: u16| Transport::Tls {
        address: format!("tcp://127.1:{port}").parse().unwrap(),
        tls: tls.build().unwrap(),
    };
    let server = TlsServer::default().echo(&authority.issue(LOOPBACK)).await;
    let plain = transport(authority.trusted(), server.port);
    let fault = fault_of(Connect::default().connect(&plain).await);
    assert_eq!(fault, TlsFault::InvalidServerName);

    let server = TlsServer::default().echo(&authority.issue(LOOPBACK)).await;
    let named = transport(authority.trusted().server_name("127.0.0.1"), server.port);
    let _stream = Connect::default().connect(&named).await.unwrap();
}

#[tokio::test]
async fn message_says_what_to_do_and_the_source_what_happened() {
    let issued = Authority::new("CA").issue(LOOPBACK);
    let server = TlsServer::default().echo(&issued).await;
    let tls = Authority::new("another CA").trusted().build().unwrap();
    let error = server.connect_tls(tls).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no TLS connection to tcp://127.0.0.1:{}: the server's certificate is from an authority unknown here, \
             give the CA that signed it",
            server.port
        )
    );
    let source: &io::Error = error.source().unwrap().downcast_ref().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::InvalidData);
}
