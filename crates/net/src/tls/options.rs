//! Whom to trust, what to show, what to offer.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio_rustls::rustls::{
    ClientConfig, Error as Rustls, RootCertStore, crypto::ring, pki_types::ServerName,
};

use super::{
    TlsConfig,
    pem::{Pem, PemOrigin, PemPurpose},
    verifier::AnyHostName,
};

/// How to speak TLS to a server: TLS 1.2 and 1.3, with the certificate authorities that the system
/// trusts unless others are given.
///
/// ```no_run
/// use whimbrel_net::{Pem, TlsOptions};
///
/// let tls = TlsOptions::new()
///     .ca(Pem::file("/etc/broker/ca.pem"))
///     .client_certificate(Pem::file("device.pem"), Pem::file("device.key"))
///     .alpn(["mqtt"])
///     .build()?;
/// # Ok::<(), whimbrel_net::TlsOptionsError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Empty stands for the system's.
    authorities: Vec<Pem>,
    client: Option<ClientIdentity>,
    alpn: Vec<Vec<u8>>,
    server_name: Option<String>,
    host_name: HostNameCheck,
}

impl TlsOptions {
    /// Trust in the system's authorities, no client certificate, no ALPN.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts every certificate in `pem` as an authority, together with those of earlier calls and
    /// in place of the system's. A server's self-signed certificate can be one, unless it is marked as
    /// a CA's, which is what `openssl req -x509` does.
    #[must_use]
    pub fn ca(mut self, pem: Pem) -> Self {
        self.authorities.push(pem);
        self
    }

    /// Shows a certificate to servers that ask for one. `certificates` begins with the client's
    /// own, followed by those between it and the CA; `key` is its private key, not encrypted, in
    /// PKCS #8, PKCS #1 or SEC1 form. Both may be in the same text. A later call replaces it.
    #[must_use]
    pub fn client_certificate(mut self, certificates: Pem, key: Pem) -> Self {
        self.client = Some(ClientIdentity { certificates, key });
        self
    }

    /// Offers these application protocols, the preferred one first (ALPN, RFC 7301); each has 1 to
    /// 255 bytes. A server that knows none of them refuses the connection, or ignores the offer.
    /// A later call replaces them.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Asks for `name`, a DNS name or an IP address, and expects it in the server's certificate,
    /// whatever the host of the address is.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Options that give up part of what TLS protects from.
    pub fn dangerous(self) -> DangerousTlsOptions {
        DangerousTlsOptions(self)
    }

    /// Reads the files and the system's authorities, and checks all of it, so that a connect can
    /// fail by what the server does only. It blocks while it reads; do it once, not per connect.
    ///
    /// The system's authorities are where OpenSSL has them, or where the environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` say; on macOS and Windows they are the system's store.
    ///
    /// # Errors
    /// [`TlsOptionsError`], for the first that is missing or wrong.
    pub fn build(self) -> Result<TlsConfig, TlsOptionsError> {
        let server_name = self
            .server_name
            .map(|name| {
                ServerName::try_from(name.clone())
                    .map_err(|_| TlsOptionsError::InvalidServerName { name })
            })
            .transpose()?;
        let is_valid = |protocol: &Vec<u8>| (1..=ALPN_PROTOCOL_BYTES_MAX).contains(&protocol.len());
        if self.alpn.len() > ALPN_PROTOCOLS_MAX || !self.alpn.iter().all(is_valid) {
            return Err(TlsOptionsError::InvalidAlpn);
        }
        let roots = if self.authorities.is_empty() {
            system_roots()?
        } else {
            given_roots(&self.authorities)?
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsOptionsError::Provider(Box::new(error)))?;
        let builder = match self.host_name {
            HostNameCheck::Expected => builder.with_root_certificates(roots),
            HostNameCheck::Any => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyHostName::new(roots, provider))),
        };
        let mut client = match self.client {
            None => builder.with_no_client_auth(),
            Some(ClientIdentity { certificates, key }) => builder
                .with_client_auth_cert(
                    certificates.certificates(PemPurpose::ClientCertificate)?,
                    key.private_key()?,
                )
                .map_err(|error| match error {
                    Rustls::InconsistentKeys(_) => TlsOptionsError::KeyMismatch {
                        key: key.origin(),
                        certificate: certificates.origin(),
                    },
                    error => TlsOptionsError::UnusableClientCertificate {
                        certificate: certificates.origin(),
                        source: Box::new(error),
                    },
                })?,
        };
        client.alpn_protocols = self.alpn;
        Ok(TlsConfig {
            client: Arc::new(client),
            server_name,
        })
    }
}

/// [`TlsOptions`] that make a connection less safe.
#[derive(Clone, Debug)]
#[must_use = "call one of its methods to get the options back"]
pub struct DangerousTlsOptions(TlsOptions);

impl DangerousTlsOptions {
    /// Takes any certificate that a trusted authority has signed and that has not expired, whatever
    /// host it was made for: anyone with a certificate of that authority can stand in for the
    /// server. This is what `--insecure` of Mosquitto's clients does. It is bearable with a private
    /// CA given by [`TlsOptions::ca`], and protects from nobody with the system's authorities.
    pub fn accept_any_host_name(mut self) -> TlsOptions {
        self.0.host_name = HostNameCheck::Any;
        self.0
    }
}

#[derive(Clone, Debug)]
struct ClientIdentity {
    certificates: Pem,
    key: Pem,
}

#[derive(Clone, Copy, Debug, Default)]
enum HostNameCheck {
    #[default]
    Expected,
    Any,
}

/// Why [`TlsOptions::build`] failed; each message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsOptionsError {
    /// A file can't be read.
    #[error("cannot read the {purpose} from {}, check the path and its permissions", path.display())]
    Read {
        /// What it was to hold.
        purpose: PemPurpose,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is a PEM block that is not whole.
    #[error("the {purpose} in {origin} is not well-formed PEM, copy the whole file again")]
    MalformedPem {
        /// What it was to hold.
        purpose: PemPurpose,
        /// Where it came from.
        origin: PemOrigin,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no certificate in what was to hold some.
    #[error("there is no {purpose} in {origin}, it needs a block -----BEGIN CERTIFICATE-----")]
    NoCertificate {
        /// What it was to hold.
        purpose: PemPurpose,
        /// Where it came from.
        origin: PemOrigin,
    },
    /// There is no private key in what was to hold one.
    #[error("there is no private key in {origin}, it needs a block -----BEGIN PRIVATE KEY-----")]
    NoPrivateKey {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The private key is encrypted.
    #[error(
        "the private key in {origin} is encrypted, decrypt it first: openssl pkey -in KEY -out DECRYPTED"
    )]
    EncryptedKey {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The private key is another certificate's.
    #[error("the private key in {key} is not that of the first certificate in {certificate}")]
    KeyMismatch {
        /// Where the key came from.
        key: PemOrigin,
        /// Where the certificate came from.
        certificate: PemOrigin,
    },
    /// The client's certificate or its key is of a kind that can't be used.
    #[error(
        "the client certificate in {certificate} or its key is not usable, use an RSA, ECDSA P-256 or P-384, or Ed25519 key"
    )]
    UnusableClientCertificate {
        /// Where the certificate came from.
        certificate: PemOrigin,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A CA's certificate is broken.
    #[error("a CA certificate in {origin} is not usable, check it with openssl x509 -text")]
    UnusableAuthority {
        /// Where it came from.
        origin: PemOrigin,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system has no certificate authorities.
    #[error(
        "this system trusts no certificate authority, install its package ca-certificates or give a CA"
    )]
    NoSystemAuthorities {
        /// Why they could not be read, if something was there.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The server name is neither a DNS name nor an IP address.
    #[error("the server name {name:?} is neither a DNS name nor an IP address")]
    InvalidServerName {
        /// The name as given.
        name: String,
    },
    /// An ALPN protocol is too short or too long, or there are too many.
    #[error("an ALPN protocol has 1 to 255 bytes, and there are at most 16 of them")]
    InvalidAlpn,
    /// The cryptography does not support the protocol versions, which is a defect of this build.
    #[error(
        "the TLS library was built without the protocol versions it needs, build it with tls12"
    )]
    Provider(#[source] Box<dyn Error + Send + Sync>),
}

fn given_roots(authorities: &[Pem]) -> Result<RootCertStore, TlsOptionsError> {
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        for certificate in pem.certificates(PemPurpose::Authority)? {
            roots
                .add(certificate)
                .map_err(|error| TlsOptionsError::UnusableAuthority {
                    origin: pem.origin(),
                    source: Box::new(error),
                })?;
        }
    }
    Ok(roots)
}

/// Those that can be parsed: stores of real systems hold some odd ones.
fn system_roots() -> Result<RootCertStore, TlsOptionsError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        return Err(TlsOptionsError::NoSystemAuthorities {
            source: loaded.errors.into_iter().next().map(Into::into),
        });
    }
    Ok(roots)
}

/// A protocol's length is one byte (RFC 7301 §3.1).
const ALPN_PROTOCOL_BYTES_MAX: usize = 255;
/// Sixteen protocols of full length still fit into one ClientHello record.
const ALPN_PROTOCOLS_MAX: usize = 16;
