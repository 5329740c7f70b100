//! TLS on both sides: what serves HTTPS, and how a Redis with TLS is trusted.
//! Not here: a switch that turns verification off. There is none.

use std::path::Path;
use std::sync::Arc;

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What serves HTTPS.
pub type ServerTls = Arc<rustls::ServerConfig>;

/// Chooses ring for all TLS of the process; a second call changes nothing.
pub fn install_provider() {
    // An error says that a provider is installed already, which is all we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Reads what serves HTTPS; HTTP/2 and HTTP/1.1 are offered by ALPN.
///
/// # Errors
/// Which file cannot be read or does not fit.
pub fn server(cert: &Path, key: &Path) -> Result<ServerTls, String> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("--tls-cert {}: {error}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("--tls-cert {}: no certificate in it", cert.display()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("--tls-key {}: {error}", key.display()))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| format!("--tls-cert {} and --tls-key do not fit: {error}", cert.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How a Redis with TLS is trusted, and who we are to it. PEM.
#[derive(Default)]
pub struct StoreTls {
    authority: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl StoreTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be read.
    pub fn read(ca: Option<&Path>, cert: Option<&Path>, key: Option<&Path>) -> Result<Self, String> {
        let read = |flag: &str, path: &Path| {
            std::fs::read(path).map_err(|error| format!("{flag} {}: {error}", path.display()))
        };
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some((read("--redis-cert", cert)?, read("--redis-key", key)?)),
            _ => None,
        };
        Ok(Self { authority: ca.map(|ca| read("--redis-ca", ca)).transpose()?, client })
    }

    /// Whether any file was named.
    pub fn is_given(&self) -> bool {
        self.authority.is_some() || self.client.is_some()
    }

    /// In the client library's form.
    pub fn certificates(&self) -> TlsCertificates {
        let client_tls =
            self.client.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.authority.clone() }
    }
}
