//! TLS options that can't be used say which part of them, and what it needs.

use std::{io, path::PathBuf};

use whimbrel_net::{Pem, PemOrigin, PemPurpose, TlsOptions, TlsOptionsError};

use crate::certificates::{Authority, Holder, Issued};

fn error_of(options: TlsOptions) -> TlsOptionsError {
    options.build().unwrap_err()
}

fn device() -> (Authority, Issued) {
    let authority = Authority::new("CA");
    let issued = authority.issue(Holder::Client("device 7"));
    (authority, issued)
}

#[test]
fn file_that_can_not_be_read_is_named() {
    let missing = PathBuf::from("/missing/ca.pem");
    match error_of(TlsOptions::new().ca(Pem::file(&missing))) {
        TlsOptionsError::Read {
            purpose,
            path,
            source,
        } => {
            assert_eq!(purpose, PemPurpose::Authority);
            assert_eq!(path, missing);
            assert_eq!(source.kind(), io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(unix)]
#[test]
fn file_without_an_end_is_not_read_to_it() {
    match error_of(TlsOptions::new().ca(Pem::file("/dev/zero"))) {
        TlsOptionsError::Read { source, .. } => {
            assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_from_files_are_those_from_text() {
    let (authority, issued) = device();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let client = folder.path().join("client.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    // A certificate and its key often share a file.
    std::fs::write(&client, issued.key.clone() + &issued.certificate).unwrap();
    TlsOptions::new()
        .ca(Pem::file(&ca))
        .client_certificate(Pem::file(&client), Pem::file(&client))
        .build()
        .unwrap();
}

#[test]
fn missing_pem_block_is_named() {
    let (authority, issued) = device();
    let error = error_of(TlsOptions::new().ca(Pem::text(issued.key.as_str())));
    assert!(
        matches!(
            error,
            TlsOptionsError::NoCertificate {
                purpose: PemPurpose::Authority,
                origin: PemOrigin::Text
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "there is no CA certificate in the given text, it needs a block -----BEGIN CERTIFICATE-----"
    );
    let error = error_of(authority.trusted().client_certificate(
        Pem::text(issued.key.as_str()),
        Pem::text(issued.key.as_str()),
    ));
    assert!(
        matches!(
            error,
            TlsOptionsError::NoCertificate {
                purpose: PemPurpose::ClientCertificate,
                ..
            }
        ),
        "{error:?}"
    );
    let error = error_of(authority.trusted().client_certificate(
        Pem::text(issued.certificate.as_str()),
        Pem::text(issued.certificate.as_str()),
    ));
    assert!(
        matches!(error, TlsOptionsError::NoPrivateKey { .. }),
        "{error:?}"
    );
}

#[test]
fn encrypted_key_is_told_from_a_missing_one() {
    let (authority, issued) = device();
    for key in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n",
    ] {
        let error = error_of(
            authority
                .trusted()
                .client_certificate(Pem::text(issued.certificate.as_str()), Pem::text(key)),
        );
        assert!(
            matches!(error, TlsOptionsError::EncryptedKey { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn key_of_another_certificate_is_refused() {
    let (authority, issued) = device();
    let other = authority.issue(Holder::Client("device 8"));
    let mixed = Issued {
        certificate: issued.certificate,
        key: other.key,
    };
    let error = error_of(mixed.shown_by(authority.trusted()));
    assert!(
        matches!(error, TlsOptionsError::KeyMismatch { .. }),
        "{error:?}"
    );
}

#[test]
fn broken_pem_and_broken_certificates_are_refused() {
    let (authority, issued) = device();
    let half = &authority.pem()[..200];
    let error = error_of(TlsOptions::new().ca(Pem::text(half)));
    assert!(
        matches!(error, TlsOptionsError::MalformedPem { .. }),
        "{error:?}"
    );
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = error_of(TlsOptions::new().ca(Pem::text(no_certificate)));
    assert!(
        matches!(error, TlsOptionsError::UnusableAuthority { .. }),
        "{error:?}"
    );
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let error = error_of(
        authority
            .trusted()
            .client_certificate(Pem::text(issued.certificate.as_str()), Pem::text(no_key)),
    );
    assert!(
        matches!(error, TlsOptionsError::UnusableClientCertificate { .. }),
        "{error:?}"
    );
}

#[test]
fn names_and_protocols_are_checked() {
    let authority = Authority::new("CA");
    for name in ["", "a b", "http://broker.example"] {
        let error = error_of(authority.trusted().server_name(name));
        assert!(
            matches!(&error, TlsOptionsError::InvalidServerName { name: told } if told == name),
            "{error:?}"
        );
    }
    let longest = vec![b'p'; 255];
    authority.trusted().alpn([longest.clone()]).build().unwrap();
    for protocols in [vec![Vec::new()], vec![vec![b'p'; 256]], vec![longest; 17]] {
        let error = error_of(authority.trusted().alpn(protocols));
        assert!(matches!(error, TlsOptionsError::InvalidAlpn), "{error:?}");
    }
}

#[test]
fn debug_shows_no_key() {
    let (authority, issued) = device();
    let options = issued.shown_by(authority.trusted());
    let secret = issued.key.lines().nth(1).unwrap();
    for text in [
        format!("{options:?}"),
        format!("{:?}", options.build().unwrap()),
    ] {
        assert!(
            !text.contains("PRIVATE KEY") && !text.contains(secret),
            "{text}"
        );
    }
}
