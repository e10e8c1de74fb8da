//! A certificate authority that lives as long as a test.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use whimbrel_net::{Pem, TlsOptions};

/// Signs certificates of servers and clients.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Options that trust this authority and no other.
    pub(crate) fn trusted(&self) -> TlsOptions {
        TlsOptions::new().ca(Pem::text(self.pem()))
    }

    /// The authority's own certificate and key, for a server that makes the mistake of using them.
    pub(crate) fn itself(&self) -> Issued {
        Issued {
            certificate: self.pem(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    pub(crate) fn issue(&self, holder: Holder<'_>) -> Issued {
        let (names, usage) = match holder {
            Holder::Client(_) => (Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
            Holder::Server(names) | Holder::ServerInYears(names, ..) => (
                names.iter().map(|name| (*name).to_owned()).collect(),
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        match holder {
            Holder::Client(name) => params.distinguished_name.push(DnType::CommonName, name),
            Holder::Server(_) => params
                .distinguished_name
                .push(DnType::CommonName, "a server"),
            Holder::ServerInYears(_, from, to) => {
                params
                    .distinguished_name
                    .push(DnType::CommonName, "a server of another time");
                params.not_before = date_time_ymd(from, 1, 1);
                params.not_after = date_time_ymd(to, 1, 1);
            }
        }
        let key = KeyPair::generate().unwrap();
        Issued {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Whose certificate it is.
#[derive(Clone, Copy)]
pub(crate) enum Holder<'a> {
    /// A client with this common name.
    Client(&'a str),
    /// A server with these alternative names.
    Server(&'a [&'a str]),
    /// A server whose certificate is valid from the beginning of one year to that of another.
    ServerInYears(&'a [&'a str], i32, i32),
}

/// A certificate and its private key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Issued {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// `options`, showing this certificate.
    pub(crate) fn shown_by(&self, options: TlsOptions) -> TlsOptions {
        options.client_certificate(
            Pem::text(self.certificate.as_str()),
            Pem::text(self.key.as_str()),
        )
    }
}
