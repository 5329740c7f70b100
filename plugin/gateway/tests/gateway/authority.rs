//! Certificates for one test, and a Redis that shows one.
//! Not here: what is made of them (`tls`).

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::process::free_port;
use crate::servers::Redis;

/// A certificate authority and a folder for what it signs.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Certificate and key, as files.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn sign(&self, name: &str, last_year: i32) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // With the default name for both, OpenSSL takes the certificate for its own issuer.
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let at = |end: &str| self.folder.path().join(format!("{name}-{last_year}.{end}"));
        std::fs::write(at("pem"), cert.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        Identity { cert: at("pem"), key: at("key") }
    }
}

/// A Redis with a port for TLS; whether it asks `clients` for certificates.
pub(crate) fn redis_with(identity: &Identity, ca: &Path, clients: &str) -> (u16, Redis) {
    let port = free_port();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (tls_port, cert, key, ca) = (port.to_string(), path(&identity.cert), path(&identity.key), path(ca));
    let flags = [
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        clients,
    ];
    (port, Redis::start(&flags))
}
