//! Headers by which a client says who or where it is. Origins believe them of a proxy, so what comes from a visitor
//! must not reach them. CGI, WSGI, Rack and PHP read `X_Real_IP` as `X-Real-IP`, and some servers any other
//! character as well: names are compared with every character that is no letter or digit read as `-`.

use http::HeaderName;
use smallvec::SmallVec;

/// Headers of the edge's own, both ways, begin so.
const OWN: &str = "x-doorstep-";

/// What is read in one spelling alone: another would count beside it.
const FRAMING: [&str; 5] =
    ["x-request-id", "content-length", "transfer-encoding", "connection", "upgrade"];

/// What a proxy that is trusted says of its clients. Written exactly so.
const FORWARDING: [&str; 3] = ["forwarded", "x-forwarded-for", "x-forwarded-host"];

/// Whether a visitor's header of this name is kept from the origin. `trusted`: it comes from a proxy that
/// is believed. `wanted`: names that the site lets through all the same, in lower case.
pub(super) fn is_claim(name: &HeaderName, trusted: bool, wanted: &[HeaderName]) -> bool {
    let name = name.as_str();
    if is_plain(name) {
        return false;
    }
    let odd = name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-');
    let claims = if odd {
        let normal: String = name
            .chars()
            .map(|char| if char.is_ascii_alphanumeric() { char } else { '-' })
            .collect();
        normal.starts_with(OWN) || FRAMING.contains(&&*normal) || says_who(&normal)
    } else if name.starts_with(OWN) {
        return true;
    } else {
        says_who(name) && !(trusted && FORWARDING.contains(&name))
    };
    claims && !wanted.iter().any(|wanted| wanted.as_str() == name)
}

/// Whether a header of the origin's answer is for the edge alone.
pub(super) fn is_own(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.len() >= OWN.len()
        && name
            .bytes()
            .zip(OWN.bytes())
            .all(|(byte, own)| byte == own || (own == b'-' && byte == b'_'))
}

/// What nearly every request has, and no more.
fn is_plain(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "user-agent"
            | "accept"
            | "accept-language"
            | "accept-encoding"
            | "referer"
            | "cookie"
            | "connection"
            | "cache-control"
            | "pragma"
            | "priority"
            | "origin"
            | "te"
            | "dnt"
            | "content-type"
            | "content-length"
            | "upgrade-insecure-requests"
            | "authorization"
            | "if-none-match"
            | "if-modified-since"
            | "range"
    ) || BROWSERS.iter().any(|family| name.starts_with(family))
}

/// What browsers say of themselves and of a request begins so.
const BROWSERS: [&str; 5] = ["sec-fetch-", "sec-ch-", "sec-gpc", "sec-purpose", "sec-websocket-"];

/// Whether a name is one by which proxies hand on who a client is: its address, scheme, host, path,
/// certificate or user.
fn says_who(name: &str) -> bool {
    if name == "proxy" || name.contains("forwarded") || name.contains("authenticated") {
        return true;
    }
    if FAMILIES.iter().any(|family| name.strip_prefix(family).is_some_and(ends_word)) {
        return true;
    }
    let (mut last, mut before) = ("", "");
    for word in name.split('-') {
        if WORDS.contains(&word) || word.starts_with("clientcert") {
            return true;
        }
        (before, last) = (last, word);
    }
    let address = matches!(last, "address" | "addr") && SIDES.contains(&before);
    // `clientip` and the like are one word in some clouds.
    let ip = matches!(last, "ip" | "ipv4" | "ipv6")
        || last.strip_suffix("ip").is_some_and(|side| SIDES.contains(&side));
    address || ip
}

/// Nothing more of a word follows.
fn ends_word(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('-')
}

/// Names by their beginning: what servers and clouds call the user, the certificate, the host and path that they
/// were asked for, where a file lies, and whether a check was made before.
const FAMILIES: [&str; 78] = [
    "remote-user",
    "remote-group",
    "remote-groups",
    "remote-email",
    "remote-name",
    "client-cert",
    "x-client-certificate",
    "x-auth-user",
    "x-consumer",
    "x-authentik",
    "oidc-claim",
    "sm-user",
    "iv-user",
    "tailscale-user",
    "x-remote",
    "x-original",
    "x-rewrite",
    "x-host",
    "x-http-host-override",
    "x-scheme",
    "x-url-scheme",
    "x-proto",
    "x-auth-request",
    "x-webauth",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-proxyuser",
    "x-envoy",
    "x-amzn-oidc",
    "x-amzn-mtls",
    "x-ms-client-principal",
    "cf",
    "cloudfront-viewer",
    "auth-user",
    "fastly-ff",
    "gap-auth",
    "impersonate",
    "x-accel",
    "x-appengine",
    "x-auth-email",
    "x-goog-iap",
    "x-invoke",
    "x-matched-path",
    "x-middleware",
    "x-pomerium",
    "x-sendfile",
    "x-userinfo",
    "x-vercel",
    "x-vouch",
    "forward",
    "x-forward",
    "x-forwarder",
    "x-real",
    "x-client-port",
    "x-client-proto",
    "x-client-host",
    "x-ipaddress",
    "x-custom-ip",
    "remote-host",
    "remote-port",
    "proxy-user",
    "x-proxy-user",
    "x-ms-token",
    "x-azure-fdid",
    "x-geoip",
    "geoip",
    "x-country-code",
    "x-akamai",
    "x-credential-identifier",
    "x-protocol",
    "auth-type",
    "script-name",
    "path-info",
    "server-name",
    "server-port",
    "request-uri",
    "document-root",
];

/// A name with one of these says how the client is connected.
const WORDS: [&str; 5] = ["https", "ssl", "tls", "mtls", "shib"];

/// Who an address may be of.
const SIDES: [&str; 11] = [
    // `X-Client-IP-Address`
    "ip",
    "client",
    "remote",
    "real",
    "user",
    "viewer",
    "external",
    "peer",
    "socket",
    "source",
    "connecting",
];

/// The names among `names` that are kept from the origin.
pub(super) fn claims<'n>(
    names: impl Iterator<Item = &'n HeaderName>,
    trusted: bool,
    wanted: &[HeaderName],
) -> SmallVec<[HeaderName; 2]> {
    names.filter(|name| is_claim(name, trusted, wanted)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, trusted: bool) -> bool {
        is_claim(&HeaderName::try_from(name).unwrap(), trusted, &[])
    }

    const CLAIMS: &[&str] = &[
        "X-Doorstep-Plan",
        "X_Doorstep_Plan",
        "X-Doorstep_User",
        "x.doorstep.plan",
        "X_Request_Id",
        "Forwarded-For",
        "X-Forwarded",
        "X-Forwarded-Scheme",
        "X-Forwarded-Ssl",
        "X-Forwarded-Method",
        "X-Forwarded-Uri",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-User",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded_Proto",
        "X-Original-Forwarded-For",
        "CloudFront-Forwarded-Proto",
        "X-Real-IP",
        "X_Real_IP",
        "X-Client-IP",
        "True-Client-IP",
        "Client-IP",
        "CF-Connecting-IP",
        "CF-Connecting-IPv6",
        "CF-Pseudo-IPv4",
        "Fastly-Client-IP",
        "Fastly-SSL",
        "Fly-Client-IP",
        "X-Cluster-Client-IP",
        "X-Azure-ClientIP",
        "X-Azure-SocketIP",
        "X-AppEngine-User-IP",
        "X-Envoy-External-Address",
        "CloudFront-Viewer-Address",
        "X-Remote-Addr",
        "X-Originating-IP",
        "X-ProxyUser-Ip",
        "WL-Proxy-Client-IP",
        "Remote-Addr",
        "X-Scheme",
        "X-Url-Scheme",
        "Front-End-Https",
        "HTTPS",
        "X-ARR-SSL",
        "X-SSL-Client-DN",
        "SSL-Client-Cert",
        "X-Client-Cert",
        "X-Client-Verify",
        "X-Host",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-HTTP-Host-Override",
        "Proxy",
        "Remote-User",
        "Remote_User",
        "X-Remote-User",
        "X-Remote-Group",
        "X-WebAuth-User",
        "X-Auth-Request-Email",
        "X-Goog-Authenticated-User-Email",
        "X-MS-Client-Principal-Name",
        "Cf-Access-Jwt-Assertion",
        "X-Amzn-Oidc-Identity",
        "X-Sendfile-Type",
        "X-Accel-Mapping",
        "X-Vouch-User",
        "X-Userinfo",
        "X-Pomerium-Jwt-Assertion",
        "X-Pomerium-Claim-Email",
        "Gap-Auth",
        "Auth-User",
        "X-Auth-Email",
        "Impersonate-User",
        "Impersonate-Extra-Scopes",
        "X-Client-IP-Address",
        "CF-Ray",
        "CF-IPCountry",
        "CF-Worker",
        "X-AppEngine-Country",
        "X-AppEngine-Cron",
        "X-Vercel-IP-Country",
        "X-Middleware-Subrequest",
        "X-Invoke-Path",
        "X-Matched-Path",
        "X-Goog-IAP-JWT-Assertion",
        "Fastly-FF",
        "Sec-X-Real-IP",
        "X-Forward-For",
        "Forward-For",
        "X-Forwarder-For",
        "X-IPAddress",
        "X-Custom-IP-Authorization",
        "Remote-Host",
        "X-Real-Port",
        "X-Client-Port",
        "X-Client-Proto",
        "X-Client-Host",
        "X-Protocol",
        "Proxy-User",
        "X-Proxy-User",
        "X-Credential-Identifier",
        "X-Ms-Token-Aad-Id-Token",
        "X-Azure-FDID",
        "X-GeoIP-Country",
        "GEOIP_COUNTRY_CODE",
        "X-Country-Code",
        "X-Akamai-Edgescape",
        "Auth-Type",
        "Script-Name",
        "Path-Info",
        "Server-Name",
        "Request-Uri",
        "Content_Length",
        "Transfer_Encoding",
        "Sec_CH_Real_IP",
    ];

    #[test]
    fn what_says_who_a_client_is_is_known_by_its_pattern() {
        for name in CLAIMS {
            assert!(claim(name, false), "{name}");
        }
    }

    #[test]
    fn what_a_site_sends_to_itself_passes() {
        for name in [
            "Host",
            "Cookie",
            "Authorization",
            "Accept",
            "X-Requested-With",
            "X-Request-Id",
            "X-CSRF-Token",
            "X_CSRF_Token",
            "HX-Request",
            "X-Shipping-Address",
            "X-Zip",
            "X-Ship",
            "X-User",
            "X-Client",
            "X-HTTP-Method-Override",
            "Idempotency-Key",
            "Sec-WebSocket-Protocol",
            "Sec-CH-UA",
            "Sec-Fetch-Site",
            "Sec-GPC",
            "Sec-Purpose",
            "X-Authored",
            "X-Vouchers",
            "Upgrade-Insecure-Requests",
            "Proxy-Hint",
            "Traceparent",
            "X-Doorstepper",
            "My_Header",
            "Content-Type",
            "Upgrade",
            "Via",
            "X-Remotely",
            "X-Color-Scheme",
            "X-Pricing-Scheme",
        ] {
            assert!(!claim(name, false), "{name}");
        }
    }

    #[test]
    fn a_trusted_proxy_forwards_and_a_site_takes_what_it_names() {
        for name in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host"] {
            assert!(claim(name, false) && !claim(name, true), "{name}");
        }
        for name in [
            "Client-Cert-Chain",
            "Remote-Groups",
            "X-TLS-Cipher",
            "OIDC_CLAIM_email",
            "Shib-Session-ID",
        ] {
            assert!(claim(name, false), "{name}");
        }
        for name in ["X_Forwarded_For", "X-Real-IP", "X-Doorstep-Plan"] {
            assert!(claim(name, true), "{name}");
        }
        let wanted = [
            HeaderName::from_static("cf-connecting-ip"),
            HeaderName::from_static("x-doorstep-plan"),
        ];
        let name = |name| HeaderName::from_static(name);
        assert!(!is_claim(&name("cf-connecting-ip"), false, &wanted));
        assert!(is_claim(&name("cf_connecting_ip"), false, &wanted));
        assert!(is_claim(&name("x-doorstep-plan"), false, &wanted), "the edge's own never");
    }

    #[test]
    fn an_origins_word_to_the_edge_is_known() {
        for (name, own) in [
            ("x-doorstep-user", true),
            ("x_doorstep_user", true),
            ("x-doorstepper", false),
            ("x-d", false),
        ] {
            assert_eq!(is_own(&HeaderName::from_static(name)), own, "{name}");
        }
    }
}
