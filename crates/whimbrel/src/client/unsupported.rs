//! Options of mosquitto_pub, _sub and _rr that there are no equivalents for: refused by name.

use std::ffi::OsString;

use clap::Args;

use crate::failure::Failure;

/// Hidden, so that they are known and not offered.
#[derive(Args, Debug)]
pub(crate) struct UnsupportedArguments {
    #[arg(short = 'S', hide = true)]
    srv: bool,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    psk: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    psk_identity: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    ciphers: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    tls_version: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    tls_engine: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    tls_engine_kpass_sha1: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    keyform: Option<OsString>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    proxy: Option<OsString>,
}

impl UnsupportedArguments {
    /// Refuses the first that was given.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        let keyform_is_other = self.keyform.as_ref().is_some_and(|form| form != "pem");
        let refused = [
            (
                self.srv,
                "-S is not supported: SRV records are not looked up, name the host with -h",
            ),
            (
                self.psk.is_some() || self.psk_identity.is_some(),
                "--psk is not supported: rustls has no pre-shared keys, use certificates (--cafile, --cert, --key)",
            ),
            (
                self.ciphers.is_some(),
                "--ciphers is not supported: the cipher suites of TLS 1.2 and 1.3 that rustls has are offered",
            ),
            (
                self.tls_version.is_some(),
                "--tls-version is not supported: TLS 1.2 and 1.3 are offered, and the server chooses",
            ),
            (
                self.tls_engine.is_some() || self.tls_engine_kpass_sha1.is_some(),
                "--tls-engine is not supported: the key has to be in a file (--key)",
            ),
            (
                keyform_is_other,
                "--keyform is not supported: the key has to be PEM in a file (--key)",
            ),
            (
                self.proxy.is_some(),
                "--proxy is not supported: connect directly, or through a tunnel to -h and -p",
            ),
        ];
        match refused.iter().find(|(is_given, _)| *is_given) {
            Some((_, line)) => Err(Failure::Usage((*line).to_owned())),
            None => Ok(()),
        }
    }
}
