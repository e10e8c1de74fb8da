//! Certificates as servers load them, and such as no server should have.

use rcgen::{CertificateParams, date_time_ymd};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::certificates::{Authority, Issued};

impl Authority {
    /// The authority's own certificate and key, which some use for the server too.
    pub(crate) fn itself(&self) -> Issued {
        Issued {
            certificate: self.pem(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    /// A server's certificate that is valid from the beginning of one year to that of another.
    pub(crate) fn issue_in_years(&self, names: &[&str], from: i32, to: i32) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        self.sign(params)
    }
}

impl Issued {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}
