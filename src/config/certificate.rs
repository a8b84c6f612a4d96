//! Certificates of a TLS listener, chosen by the name that the client asks for.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::file::CertificateFiles;
use crate::site::{HostPattern, Hosts};
use crate::telemetry::metrics::CERTIFICATES;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read or holds something else.
    #[error("`{0}` can't be read as PEM: {1}")]
    Pem(String, rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    #[error("`{0}` holds no certificate")]
    Empty(String),
    /// Key and certificate don't belong together, or the key is of an unknown kind.
    #[error("key `{0}` can't be used: {1}")]
    Key(String, rustls::Error),
    /// The certificate itself is broken.
    #[error("certificate `{0}` is broken: {1}")]
    Broken(String, String),
}

/// One listener's certificates.
#[derive(Debug)]
pub struct Certificates {
    by_name: Hosts<Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
    /// Each file, and when its certificate ends, in seconds since 1970.
    ends: Vec<(String, i64)>,
}

impl Certificates {
    /// Reads the files. The first pair serves clients that name no host or an unknown one.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, by its position in `files`.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, Vec<(usize, CertificateError)>> {
        let mut by_name = Hosts::default();
        let (mut first, mut ends, mut wrong) = (None, Vec::new(), Vec::new());
        for (index, pair) in files.iter().enumerate() {
            match read(pair) {
                Ok((key, names, end)) => {
                    ends.push((pair.certificate.clone(), end));
                    for name in names {
                        // The first certificate for a name counts.
                        let _ = by_name.add(name, Arc::clone(&key));
                    }
                    first.get_or_insert(key);
                }
                Err(error) => wrong.push((index, error)),
            }
        }
        match first {
            Some(first) if wrong.is_empty() => Ok(Self { by_name, first, ends }),
            _ => Err(wrong),
        }
    }
}

/// Shows when each certificate of all `listeners` ends, and forgets those that are served no more.
pub fn show_ends<'c>(listeners: impl Iterator<Item = &'c Certificates>) {
    CERTIFICATES.reset();
    for (file, end) in listeners.flat_map(|listener| &listener.ends) {
        CERTIFICATES.with_label_values(&[file]).set(*end);
    }
}

/// The certificates of a listener that runs: they can be replaced.
#[derive(Debug)]
pub struct LiveCertificates(ArcSwap<Certificates>);

impl LiveCertificates {
    /// These, for now.
    #[must_use]
    pub fn new(certificates: Certificates) -> Self {
        Self(ArcSwap::from_pointee(certificates))
    }

    /// Others from now on: connections that are made by now keep theirs.
    pub fn take(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }
}

impl ResolvesServerCert for LiveCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let named = hello.server_name().map(str::to_ascii_lowercase);
        let found = named.and_then(|name| certificates.by_name.find(&name).cloned());
        Some(found.unwrap_or_else(|| Arc::clone(&certificates.first)))
    }
}

fn read(
    pair: &CertificateFiles,
) -> Result<(Arc<CertifiedKey>, Vec<HostPattern>, i64), CertificateError> {
    let pem = |file: &str, error| CertificateError::Pem(file.into(), error);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(Path::new(&pair.certificate))
            .and_then(Iterator::collect)
            .map_err(|error| pem(&pair.certificate, error))?;
    let leaf = chain.first().ok_or_else(|| CertificateError::Empty(pair.certificate.clone()))?;
    let names = webpki::EndEntityCert::try_from(leaf)
        .map_err(|error| CertificateError::Broken(pair.certificate.clone(), format!("{error:?}")))?
        .valid_dns_names()
        .filter_map(|name| HostPattern::parse(name).ok())
        .collect();
    let end = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| CertificateError::Broken(pair.certificate.clone(), error.to_string()))?
        .1
        .validity()
        .not_after
        .timestamp();
    let key = PrivateKeyDer::from_pem_file(Path::new(&pair.key))
        .map_err(|error| pem(&pair.key, error))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| CertificateError::Key(pair.key.clone(), error))?;
    Ok((Arc::new(key), names, end))
}
