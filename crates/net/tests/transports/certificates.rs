//! A certificate authority that lives as long as a test; the tests with mosquitto use it too.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use whimbrel_net::{Pem, TlsOptions};

/// Signs certificates of servers and clients.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
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

    pub(crate) fn issue(&self, holder: Holder<'_>) -> Issued {
        let (names, common_name, usage) = match holder {
            Holder::Client(name) => ([].as_slice(), name, ExtendedKeyUsagePurpose::ClientAuth),
            Holder::Server(names) => (names, "a server", ExtendedKeyUsagePurpose::ServerAuth),
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        self.sign(params)
    }

    pub(crate) fn sign(&self, mut params: CertificateParams) -> Issued {
        params.use_authority_key_identifier_extension = true;
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
}

/// A certificate and its private key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Issued {
    /// `options`, showing this certificate.
    pub(crate) fn shown_by(&self, options: TlsOptions) -> TlsOptions {
        options.client_certificate(
            Pem::text(self.certificate.as_str()),
            Pem::text(self.key.as_str()),
        )
    }
}
