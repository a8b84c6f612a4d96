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
    /// Key and certificate don't belong together.
    #[error("key `{0}` does not belong to certificate `{1}`")]
    Another(String, String),
    /// The key is of an unknown kind.
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
    /// Of each pair: the certificate's names, and what is wrong with it.
    facts: Vec<(Vec<HostPattern>, Option<&'static str>)>,
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
        let (mut first, mut wrong) = (None, Vec::new());
        let (mut facts, mut ends) = (Vec::new(), Vec::new());
        for (index, pair) in files.iter().enumerate() {
            match read(pair) {
                Ok(Read { key, names, doubt, end }) => {
                    facts.push((names.clone(), doubt));
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
            Some(first) if wrong.is_empty() => Ok(Self { by_name, first, facts, ends }),
            _ => Err(wrong),
        }
    }

    /// What clients will mind, by the position of the pair: `hosts` are the sites'.
    pub(super) fn doubts(&self, hosts: &[HostPattern]) -> Vec<(usize, String)> {
        let covers = |name: &HostPattern| hosts.iter().any(|host| meet(name, host));
        let doubts = self.facts.iter().enumerate().flat_map(|(index, (names, doubt))| {
            let strange = !names.iter().any(covers);
            let strange = strange.then_some("this certificate names no host of any site");
            doubt.iter().copied().chain(strange).map(move |why| (index, why.to_owned()))
        });
        doubts.collect()
    }
}

/// Whether there is a host that both name.
fn meet(one: &HostPattern, other: &HostPattern) -> bool {
    match (one, other) {
        (HostPattern::Exact(name), pattern) | (pattern, HostPattern::Exact(name)) => {
            pattern.matches(name)
        }
        _ => one == other,
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

/// A pair of files as they were read.
struct Read {
    key: Arc<CertifiedKey>,
    names: Vec<HostPattern>,
    /// What is wrong with the certificate's time, or its purpose.
    doubt: Option<&'static str>,
    /// When it ends, in seconds since 1970.
    end: i64,
}

fn read(pair: &CertificateFiles) -> Result<Read, CertificateError> {
    let pem = |file: &str, error| CertificateError::Pem(file.into(), error);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(Path::new(&pair.certificate))
            .and_then(Iterator::collect)
            .map_err(|error| pem(&pair.certificate, error))?;
    let leaf = chain.first().ok_or_else(|| CertificateError::Empty(pair.certificate.clone()))?;
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|error| {
        CertificateError::Broken(pair.certificate.clone(), format!("{error:?}"))
    })?;
    let names = parsed.valid_dns_names().filter_map(|name| HostPattern::parse(name).ok()).collect();
    let (_, told) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| CertificateError::Broken(pair.certificate.clone(), error.to_string()))?;
    let end = told.validity().not_after.timestamp();
    let soon = ends_soon(told.validity().not_before.timestamp(), end);
    let doubt = wrong_time(&parsed).or_else(|| wrong_purpose(&told)).or(soon);
    let key = PrivateKeyDer::from_pem_file(Path::new(&pair.key))
        .map_err(|error| pem(&pair.key, error))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::Another(pair.key.clone(), pair.certificate.clone())
        }
        error => CertificateError::Key(pair.key.clone(), error),
    })?;
    Ok(Read { key: Arc::new(key), names, doubt, end })
}

/// Whether a certificate should have been renewed by now: a tenth of its time is left, or less than two weeks.
fn ends_soon(begin: i64, end: i64) -> Option<&'static str> {
    const TWO_WEEKS: i64 = 14 * 24 * 3600;
    let left = end.saturating_sub(crate::profile::now_millis() / 1000);
    let few = (end.saturating_sub(begin) / 10).min(TWO_WEEKS);
    (left < few).then_some("this certificate ends soon, and has not been renewed")
}

/// What is wrong with a certificate's time. That nobody has signed it is not looked at.
fn wrong_time(certificate: &webpki::EndEntityCert<'_>) -> Option<&'static str> {
    let judged = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[],
        &[],
        rustls::pki_types::UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    match judged {
        Err(webpki::Error::CertExpired { .. }) => Some("this certificate has ended"),
        Err(webpki::Error::CertNotValidYet { .. }) => Some("this certificate does not count yet"),
        _ => None,
    }
}

/// A certificate that lists purposes is for these alone (RFC 5280, 4.2.1.12).
fn wrong_purpose(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
) -> Option<&'static str> {
    let purposes = certificate.extended_key_usage().ok()??.value;
    let serves = purposes.any || purposes.server_auth;
    (!serves).then_some("this certificate is not for servers (its extended key usage)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &Path, name: &str, until: i32) -> CertificateFiles {
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
        if name.starts_with("client") {
            parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let made = parameters.self_signed(&key).unwrap();
        let file = |kind: &str, text: String| {
            let path = folder.join(format!("{name}.{until}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        CertificateFiles {
            certificate: file("pem", made.pem()),
            key: file("key", key.serialize_pem()),
        }
    }

    #[test]
    fn a_certificate_that_should_have_been_renewed_is_known() {
        let now = crate::profile::now_millis() / 1000;
        let day = 24 * 3600;
        for (from, until, soon) in [
            (-80, 10, false),
            (-85, 3, true),
            (-350, 15, false),
            (-350, 13, true),
            (-5, 2, false),
            (-6, 0, true),
        ] {
            let ends = ends_soon(now + from * day, now + until * day);
            assert_eq!(ends.is_some(), soon, "{from} {until}");
        }
    }

    #[test]
    fn what_clients_will_mind_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |name, until| pair(folder.path(), name, until);
        let hosts =
            ["www.shop.example", "*.b.example"].map(|host| HostPattern::parse(host).unwrap());
        let (good, below) = (pair("www.shop.example", 2999), pair("a.b.example", 2999));
        let (old, other) = (pair("*.shop.example", 2020), pair("b.example", 2999));
        let client = pair("client.b.example", 2999);
        let files = [good.clone(), below, old, other.clone(), client];
        let doubts = Certificates::load(&files).unwrap().doubts(&hosts);
        let told: Vec<_> = doubts.iter().map(|(index, why)| (*index, why.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "this certificate has ended"),
                (3, "this certificate names no host of any site"),
                (4, "this certificate is not for servers (its extended key usage)"),
            ]
        );
        let mixed = CertificateFiles { certificate: good.certificate, key: other.key };
        let wrong = Certificates::load(&[mixed]).unwrap_err();
        assert!(wrong[0].1.to_string().contains("does not belong to"), "{wrong:?}");
    }
}
