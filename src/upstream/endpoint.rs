//! `127.0.0.1:3000`, `http://host:port/base`, `https://host` → where to connect.

use http::Uri;

/// Scheme, host, port and base path of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    base: String,
}

/// Why text is not an [`Endpoint`]. None repeats the text, which may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a URL and not `host:port`.
    #[error("this is not an address: write `127.0.0.1:3000`, `http://host:port` or `https://host`")]
    NotAnAddress,
    /// Something other than http.
    #[error("this has a scheme other than http and https")]
    Scheme,
    /// Parts that an upstream can't have.
    #[error("this has a user, query or fragment, which an upstream can't have")]
    Extra,
}

impl Endpoint {
    /// Reads an upstream's address.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let not_an_address = || EndpointError::NotAnAddress;
        let uri: Uri = if text.contains("://") {
            text.parse().map_err(|_| not_an_address())?
        } else {
            let uri: Uri = format!("http://{text}").parse().map_err(|_| not_an_address())?;
            uri.port().is_some().then_some(uri).ok_or_else(not_an_address)?
        };
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(EndpointError::Scheme),
        };
        let authority = uri.authority().ok_or_else(not_an_address)?;
        if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
            return Err(EndpointError::Extra);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(not_an_address());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { tls, host: host.to_owned(), port, base })
    }

    /// Speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path that all paths asked for begin with; no slash at its end, often empty.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Value of the Host header: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_refuses_the_rest() {
        for wrong in [
            "",
            "localhost",
            "ftp://x",
            "http://",
            "http://u@h",
            "http://h/?q",
            "a b:1",
            "https://h/#f",
        ] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
        let parts = |text: &str| {
            let end = Endpoint::parse(text).unwrap();
            (
                end.is_tls(),
                end.host().to_owned(),
                end.port(),
                end.base().to_owned(),
                end.authority(),
            )
        };
        let own = |a: (bool, &str, u16, &str, &str)| {
            (a.0, a.1.to_owned(), a.2, a.3.to_owned(), a.4.to_owned())
        };
        assert_eq!(parts("127.0.0.1:3000"), own((false, "127.0.0.1", 3000, "", "127.0.0.1:3000")));
        assert_eq!(
            parts("https://cdn.example"),
            own((true, "cdn.example", 443, "", "cdn.example"))
        );
        assert_eq!(
            parts("https://api.example/v1/"),
            own((true, "api.example", 443, "/v1", "api.example"))
        );
        assert_eq!(parts("http://[::1]:81"), own((false, "::1", 81, "", "[::1]:81")));
    }
}
