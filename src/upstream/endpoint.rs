//! `127.0.0.1:3000`, `http://host:port/base`, `https://host` → where to connect.

use std::net::IpAddr;

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
    /// Not a name that can be resolved (RFC 1123, 2.1; `_` is let through) nor an address.
    #[error("this has no host that can be found: write a name as `shop.example` or an address")]
    Host,
    /// Not a port.
    #[error("this has a port that is not between 1 and 65535")]
    Port,
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
        if !is_host(host) {
            return Err(EndpointError::Host);
        }
        // What stands behind the host and is no port of 16 bits would be none for `Uri`.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => authority.port_u16().filter(|port| *port > 0).ok_or(EndpointError::Port)?,
        };
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

/// Whether something can be connected to under this: an address, or labels of 1 to 63 letters, digits, `-` and `_`.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
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
            "127.0.0.1:0",
            "127.0.0.1:99999",
            "http://h:65536",
            "http://h:",
            "http://a..b",
            "http://.",
            "-h:80",
            "h-.example:80",
            "h%41:80",
            "[::1]:0",
            "[::g]:80",
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
