use super::super::skeleton::{Skeleton, push_value};
use super::*;

fn hosts(names: &[&str]) -> Hosts {
    let mut hosts = Hosts::default();
    for name in names {
        hosts.add(name).unwrap();
    }
    hosts
}

/// `text` with these values in the places of `@`.
fn whole(text: &str, values: &[&str], its_use: UrlUse, hosts: &Hosts) -> Result<String, UrlError> {
    let (mut made, mut values) = (String::new(), values.iter());
    for (index, fixed) in text.split('@').enumerate() {
        if index > 0 {
            push_value(&mut made, values.next().unwrap());
        }
        made.push_str(fixed);
    }
    url(&Skeleton::of_text(&made).parts(), its_use, hosts)
}

#[test]
fn fixed_urls_lead_to_pages() {
    for safe in
        ["/a", "a?b:c", "https://x.example/", "HTTP://x", "mailto:a@b", "#a:b", "", "a/b:c", " /a "]
    {
        assert!(is_safe_url(safe), "{safe}");
    }
    for wrong in [
        "javascript:alert(1)",
        " JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "java\nscript:x",
        "\u{1}javascript:x",
        "/a\u{0}",
        "data:text/html,x",
        "vbscript:x",
        "blob:x",
        "\\\\evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:///evil.example",
        "https://good.example@evil.example/",
        "///evil.example",
        "mailto://x",
    ] {
        assert!(!is_safe_url(wrong), "{wrong}");
    }
}

#[test]
fn a_url_is_judged_once_it_is_whole() {
    let none = hosts(&[]);
    for (text, values, expected) in [
        ("@", &["https://x.example/?a=b&c"][..], Ok("https://x.example/?a=b&c")),
        ("@://@/", &["https", "x.example"], Ok("https://x.example/")),
        ("/a/@?b=@", &["c/d", "e&f"], Ok("/a/c%2Fd?b=e%26f")),
        ("mailto:@", &["a-b.c"], Ok("mailto:a-b.c")),
        ("@@", &["", "/x"], Ok("/x")),
        ("#@", &["../x"], Ok("#..%2Fx")),
        ("https://x.example/@", &["a..b"], Ok("https://x.example/a..b")),
        ("@://@", &["javascript", "x%0Aboom(91)"], Err(UrlError::Scheme)),
        ("@:@", &["javascript", "alert(1)"], Err(UrlError::Scheme)),
        ("@script:x", &["java"], Err(UrlError::Scheme)),
        ("java@:x", &["script"], Err(UrlError::Scheme)),
        ("@", &["java\tscript:x"], Err(UrlError::Character)),
        ("/@", &["\n"], Ok("/%0A")),
        ("@/x", &["\\"], Err(UrlError::Character)),
        // An empty value must not make a host of what follows.
        ("/@/evil.example/", &[""], Err(UrlError::Elsewhere)),
        ("/@/@/x", &["", "evil.example"], Err(UrlError::Elsewhere)),
        ("http@://evil.example/", &["s"], Err(UrlError::Elsewhere)),
        ("/a/@/b", &[".."], Err(UrlError::Elsewhere)),
        ("/a/.@", &["."], Err(UrlError::Elsewhere)),
        ("/a/%2E@?b", &["."], Err(UrlError::Elsewhere)),
        ("https://x.example/@/", &["."], Err(UrlError::Elsewhere)),
        ("https://@/x", &["a@b"], Ok("https://a%40b/x")),
        ("@", &["https://good@evil.example"], Err(UrlError::Host)),
    ] {
        let got = whole(text, values, UrlUse::Link, &none);
        assert_eq!(got.as_deref().map_err(|error| *error), expected, "{text} {values:?}");
    }
    let mail = whole("@", &["mailto:x"], UrlUse::Media, &none);
    assert_eq!(mail, Err(UrlError::Scheme));
}

#[test]
fn a_value_chooses_among_the_hosts_that_are_listed() {
    let listed = hosts(&["cdn.example", "*.Shop.example", "cdn.example:8443"]);
    for good in [
        "https://cdn.example",
        "HTTPS://CDN.example/a?b#c",
        "//cdn.example/a",
        "https://cdn.example:8443/a",
        "https://a.b.shop.example/",
    ] {
        assert!(whole("@", &[good], UrlUse::Code, &listed).is_ok(), "{good}");
    }
    for wrong in [
        "",
        "/a",
        "a",
        "//evil.example",
        "///cdn.example",
        "\\\\cdn.example",
        "https:cdn.example",
        "https:/cdn.example",
        "https://cdn.example.",
        "https://cdn.example:443/",
        "https://cdn.example:8443@evil.example/",
        "https://evil.example/cdn.example",
        "https://evil.example?.shop.example",
        "https://evil.example#.shop.example",
        "https://shop.example/",
        "https://.shop.example/",
        "https://evilshop.example/",
        "https://cdn.example%2eevil.example/",
        "https://cdn\u{3002}example/",
        "https://cdn.exam\u{ad}ple/",
        "https://a b.shop.example/",
        "https://evil.example\t.shop.example/",
        "javascript://cdn.example/%0Aalert(1)",
        "data:text/javascript,x",
        "mailto:cdn.example",
        "blob:https://cdn.example/",
    ] {
        assert!(whole("@", &[wrong], UrlUse::Code, &listed).is_err(), "{wrong}");
    }
    // Where the host is fixed, none needs to be listed.
    let none = hosts(&[]);
    for (text, value, is_made) in [
        ("https://cdn.example/@", "a", true),
        ("//cdn.example/@.js", "a", true),
        ("/js/@", "a", true),
        ("js/@", "a", true),
        ("?x=@", "//evil.example", true),
        ("https://cdn.example@/", ".evil.example", false),
        ("https://cdn.example:@/", "8443", false),
        ("https:@", "//cdn.example", false),
        ("https://@.cdn.example/", "a", false),
        ("//@", "cdn.example", false),
        ("@", "/js/a", false),
    ] {
        assert_eq!(whole(text, &[value], UrlUse::Code, &none).is_ok(), is_made, "{text}");
    }
    let own = hosts(&["self"]);
    for (url, is_made) in [("/a", true), ("a", true), ("//cdn.example", false), ("https:a", false)]
    {
        assert_eq!(whole("@", &[url], UrlUse::Code, &own).is_ok(), is_made, "{url}");
    }
}

#[test]
fn hosts_are_names_of_ones_own() {
    for good in
        ["cdn.example", "*.shop.example", "localhost:3000", "127.0.0.1", "self", "*.a.co.uk:8443"]
    {
        assert_eq!(Hosts::default().add(good), Ok(()), "{good}");
    }
    for wrong in [
        "",
        "*",
        "*.",
        "*.com",
        "*.co.uk",
        "https://a.example",
        "a.example/",
        "a b",
        "a..b",
        "a.*.b",
        "a:b",
        "a:99999",
        "[::1]",
        "\u{e9}.example",
        "'self'",
    ] {
        assert!(Hosts::default().add(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn each_url_of_a_list_is_judged() {
    let made = |text: &str, value: &str| {
        let mut made = String::new();
        let (before, behind) = text.split_once('@').unwrap();
        made.push_str(before);
        push_value(&mut made, value);
        made.push_str(behind);
        made
    };
    for (text, value, good) in [
        ("@", "a.png 1x, https://x.example/b.png 2x", true),
        ("/a/@.png 100w", "b, javascript:x", true),
        ("/a.png 1x, @ 2x", "https://x.example/b.png", true),
        ("/a.png 1x,@", "javascript:x", false),
        ("@", "a.png 1x, javascript:x 2x", false),
        ("@", "a.png 1x,,data:x", false),
        ("@", "a.png (x, javascript:x", false),
        ("/a/@/b.png 2x", "..", false),
        ("/b.png 1x, /a/@ 2x", "..", false),
        ("/b.png?x 1x, /a/%2E@ 2x", ".", false),
        ("/b.png 1x, /c?@ 2x", "..", true),
        ("@", "mailto:x", false),
    ] {
        let made = made(text, value);
        assert_eq!(image_set(&Skeleton::of_text(&made).parts()).is_ok(), good, "{text} {value}");
    }
    for (text, value, good) in [
        ("/a @", "https://x.example/", true),
        ("/a@", " javascript:x", true),
        ("/a @", "javascript:x", false),
        ("/a /b/@ /c", "..", false),
        ("/a /b?@ /c", "..", true),
        ("@", "/a\njavascript:x", false),
    ] {
        let made = made(text, value);
        assert_eq!(urls(&Skeleton::of_text(&made).parts()).is_ok(), good, "{text} {value}");
    }
    for (text, is_code) in [
        ("javascript:x", true),
        (" \u{1}java\tscript:x", true),
        ("DATA:x", true),
        ("Re: hello", false),
        ("12:30", false),
        ("", false),
    ] {
        assert_eq!(is_code_url(text), is_code, "{text}");
    }
}
