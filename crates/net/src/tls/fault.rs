//! What went wrong in TLS, in words that say what to do.

use std::io;

use thiserror::Error;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as Rustls};

/// What is wrong with a TLS connection, and on which side to mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// No trusted authority has signed the server's certificate.
    #[error(
        "the server's certificate is from an authority unknown here, give the CA that signed it"
    )]
    UnknownIssuer,
    /// The server's certificate, or one between it and the CA, has expired.
    #[error("the server's certificate has expired, renew it, or set this machine's clock")]
    Expired,
    /// The server's certificate is valid in the future only.
    #[error("the server's certificate is not valid yet, set this machine's clock")]
    NotValidYet,
    /// The server's certificate names other hosts.
    #[error(
        "the server's certificate is for another host, connect by a name that it lists as an alternative name, or set the server name"
    )]
    WrongHost,
    /// The server shows the certificate of a CA as its own.
    #[error(
        "the server shows the certificate of a CA as its own, make one for the server that is signed by it (basicConstraints CA:FALSE)"
    )]
    AuthorityAsServer,
    /// The server's certificate can't be used for another reason, which the source tells.
    #[error("the server's certificate is not usable, check how it was made")]
    UnusableCertificate,
    /// The host can't be the name in a certificate.
    #[error("the host can't stand in a certificate, set the server name")]
    InvalidServerName,
    /// The server wants to know who we are.
    #[error("the server demands a client certificate, give one with its private key")]
    ClientCertificateRequired,
    /// The server does not take our certificate.
    #[error(
        "the server refuses the client certificate, check that the server trusts its CA and that it has not expired"
    )]
    ClientCertificateRefused,
    /// The server answers for other names than the one asked for.
    #[error("the server has nothing under this name, check the host or the server name")]
    UnrecognisedName,
    /// None of the ALPN protocols is the server's.
    #[error("the server speaks none of the offered ALPN protocols, check them or offer none")]
    NoCommonApplicationProtocol,
    /// No version, cipher suite or signature scheme in common, or, before TLS 1.3, no client
    /// certificate where the server demands one.
    #[error(
        "nothing in common with the server's TLS, it must allow TLS 1.2 or 1.3; it may also want a client certificate"
    )]
    NothingInCommon,
    /// What came is not TLS.
    #[error("the server does not speak TLS on this port, check the port")]
    NotTls,
    /// The connection ended during the handshake.
    #[error("the server ended the connection in the TLS handshake, check that the port is for TLS")]
    EndedInHandshake,
    /// The connection ended without TLS's closing message, so that bytes may be missing.
    #[error("the connection ended without a TLS goodbye, bytes may be missing")]
    Truncated,
    /// The peer broke the rules of TLS, or gave up for a reason of its own, which the source tells.
    #[error("TLS failed, the server's log may say why")]
    Other,
    /// The connection beneath failed.
    #[error("the connection under TLS failed")]
    Io,
}

impl TlsFault {
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        match rustls_error(error) {
            Some(error) => Self::of_rustls(error),
            None if is_end(error.kind()) => Self::EndedInHandshake,
            None => Self::Io,
        }
    }

    fn of_rustls(error: &Rustls) -> Self {
        match error {
            Rustls::InvalidCertificate(error) => Self::of_certificate(error),
            Rustls::AlertReceived(alert) => Self::of_alert(*alert),
            Rustls::NoApplicationProtocol => Self::NoCommonApplicationProtocol,
            Rustls::PeerIncompatible(_) => Self::NothingInCommon,
            Rustls::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // An authority that was made anew keeps its name, and has another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotValidYet
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongHost
            }
            CertificateError::Other(other)
                if matches!(
                    other.0.downcast_ref(),
                    Some(webpki::Error::CaUsedAsEndEntity)
                ) =>
            {
                Self::AuthorityAsServer
            }
            _ => Self::UnusableCertificate,
        }
    }

    /// A client that shows a certificate hears of it by these alerts only (RFC 8446 §6.2).
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Self::ClientCertificateRequired
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => Self::ClientCertificateRefused,
            AlertDescription::UnrecognisedName => Self::UnrecognisedName,
            AlertDescription::NoApplicationProtocol => Self::NoCommonApplicationProtocol,
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity => Self::NothingInCommon,
            _ => Self::Other,
        }
    }
}

/// A fault of an open TLS stream. It is inside the `io::Error` that a read or write returns, and
/// [`io::Error::get_ref`] gives it.
///
/// In TLS 1.3 a server looks at the client's certificate only after the client's handshake is
/// done: that it demands or refuses one is heard here.
#[derive(Debug, Error)]
#[error("{fault}")]
pub struct TlsError {
    fault: TlsFault,
    source: io::Error,
}

impl TlsError {
    /// What is wrong.
    pub fn fault(&self) -> TlsFault {
        self.fault
    }
}

/// The same error with words that say what to do; errors of the system stay as they are.
pub(super) fn explain(error: io::Error) -> io::Error {
    let fault = match rustls_error(&error) {
        Some(error) => TlsFault::of_rustls(error),
        // Only the TLS library says this of a stream; the system's end of a stream is no error.
        None if error.kind() == io::ErrorKind::UnexpectedEof => TlsFault::Truncated,
        None => return error,
    };
    io::Error::new(
        error.kind(),
        TlsError {
            fault,
            source: error,
        },
    )
}

fn rustls_error(error: &io::Error) -> Option<&Rustls> {
    error.get_ref()?.downcast_ref()
}

fn is_end(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
