//! `--cafile`, `--cert` and the like.

use std::path::{Path, PathBuf};

use clap::Args;
use whimbrel_client::net::{Pem, TlsConfig, TlsOptions};

use crate::failure::{Chain, Failure};

#[derive(Args, Debug)]
pub(crate) struct TlsArguments {
    /// Trust the certificate authorities in this PEM file, and connect over TLS
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    cafile: Option<PathBuf>,

    /// Trust the certificate authorities in the .crt and .pem files of this folder, and connect over TLS
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    capath: Option<PathBuf>,

    /// Trust the certificate authorities of the system, and connect over TLS
    #[arg(long)]
    tls_use_os_certs: bool,

    /// Show the server this certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        allow_hyphen_values = true
    )]
    cert: Option<PathBuf>,

    /// The private key of --cert (PEM, not encrypted)
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        allow_hyphen_values = true
    )]
    key: Option<PathBuf>,

    /// Accept a certificate for another host name: whoever has one of the same authority can listen
    #[arg(long)]
    insecure: bool,

    /// Offer this application protocol
    #[arg(long, value_name = "PROTOCOL", allow_hyphen_values = true)]
    tls_alpn: Option<String>,
}

impl TlsArguments {
    /// Whether an option asks for TLS by itself.
    pub(crate) fn asks_for_tls(&self) -> bool {
        self.cafile.is_some() || self.capath.is_some() || self.tls_use_os_certs
    }

    /// Whether any option says how TLS is spoken.
    pub(crate) fn is_given(&self) -> bool {
        self.asks_for_tls() || self.cert.is_some() || self.insecure || self.tls_alpn.is_some()
    }

    /// Reads the files.
    pub(crate) fn config(&self) -> Result<TlsConfig, Failure> {
        let mut options = TlsOptions::new();
        if let Some(path) = &self.cafile {
            options = options.ca(Pem::file(path));
        }
        if let Some(folder) = &self.capath {
            let files = certificates_in(folder)?;
            if files.is_empty() {
                let folder = folder.display();
                return Err(Failure::Usage(format!(
                    "--capath: there is no .crt or .pem file in {folder}"
                )));
            }
            for path in files {
                options = options.ca(Pem::file(path));
            }
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            options = options.client_certificate(Pem::file(certificate), Pem::file(key));
        }
        if let Some(protocol) = &self.tls_alpn {
            options = options.alpn([protocol.as_str()]);
        }
        if self.insecure {
            options = options.dangerous().accept_any_host_name();
        }
        let built = options.build();
        built.map_err(|error| Failure::Usage(Chain(&error).to_string()))
    }
}

fn certificates_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| {
        let folder = folder.display();
        Failure::Usage(format!("--capath: cannot read {folder}: {error}"))
    };
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("crt" | "pem")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
