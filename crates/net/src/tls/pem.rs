//! Certificates and keys in PEM, from files or from memory.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};

use super::options::TlsOptionsError;

/// Text with one or more PEM blocks, in a file or at hand.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file that is read when the options are built.
    File(PathBuf),
    /// The text itself.
    Text(Vec<u8>),
}

impl Pem {
    /// PEM in a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// PEM at hand.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn certificates(
        &self,
        purpose: PemPurpose,
    ) -> Result<Vec<CertificateDer<'static>>, TlsOptionsError> {
        let origin = self.origin();
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&self.read(purpose)?).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(TlsOptionsError::NoCertificate { purpose, origin })
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(malformed(purpose, origin, error)),
        }
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsOptionsError> {
        let purpose = PemPurpose::PrivateKey;
        let origin = self.origin();
        let text = self.read(purpose)?;
        // PKCS #8 says it in its first line, the older forms in a header (RFC 1421).
        for mark in ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"] {
            if text
                .windows(mark.len())
                .any(|window| window == mark.as_bytes())
            {
                return Err(TlsOptionsError::EncryptedKey { origin });
            }
        }
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            PemError::NoItemsFound => TlsOptionsError::NoPrivateKey { origin },
            error => malformed(purpose, origin, error),
        })
    }

    pub(super) fn origin(&self) -> PemOrigin {
        match self {
            Self::File(path) => PemOrigin::File(path.clone()),
            Self::Text(_) => PemOrigin::Text,
        }
    }

    fn read(&self, purpose: PemPurpose) -> Result<Vec<u8>, TlsOptionsError> {
        let path = match self {
            Self::File(path) => path,
            Self::Text(text) => return Ok(text.clone()),
        };
        let mut text = Vec::new();
        let result = File::open(path).and_then(|file| {
            file.take(PEM_BYTES_MAX + 1).read_to_end(&mut text)?;
            if text.len() as u64 > PEM_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(text)
        });
        result.map_err(|source| TlsOptionsError::Read {
            purpose,
            path: path.clone(),
            source,
        })
    }
}

impl fmt::Debug for Pem {
    /// Without the text, which may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
        }
    }
}

/// Where PEM came from, for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PemOrigin {
    /// A file.
    File(PathBuf),
    /// Text that was given.
    Text,
}

impl fmt::Display for PemOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text => f.write_str("the given text"),
        }
    }
}

/// What PEM was to be used for, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PemPurpose {
    /// Certificates of the authorities to trust.
    Authority,
    /// The client's certificate and those between it and its CA.
    ClientCertificate,
    /// The private key of the client's certificate.
    PrivateKey,
}

impl fmt::Display for PemPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "CA certificate",
            Self::ClientCertificate => "client certificate",
            Self::PrivateKey => "private key",
        })
    }
}

fn malformed(purpose: PemPurpose, origin: PemOrigin, error: PemError) -> TlsOptionsError {
    TlsOptionsError::MalformedPem {
        purpose,
        origin,
        source: Box::new(error),
    }
}

/// Forty times the size of the public authorities' certificates together.
const PEM_BYTES_MAX: u64 = 8 * 1024 * 1024;
