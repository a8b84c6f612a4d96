//! Pages and files of the origin.

use super::ask::{Ask, Manner};
use super::browser::Browser;

const KINDS: [&str; 4] = ["one", "two", "three", "parsed"];

impl Browser {
    /// A page that a browser shows.
    pub(super) fn page(&mut self) -> Ask {
        let kind = *self.random.pick(&KINDS);
        let plan = self.random.weighted(&[
            (3, "page"),
            (2, "page chunked"),
            (2, "page etag pad"),
            (2, "page etag pad shift"),
            (1, "page etag"),
            (1, "page weak"),
            (1, "page gzip"),
            (1, "page gzip chunked"),
            (1, "page csp"),
            (1, "page close"),
            (1, "page old"),
            (1, "page cookie"),
            (1, "page hints"),
            (1, "page slow"),
            (1, "page large"),
            (1, "page etag same"),
            (2, "page gold-gone"),
            (2, "page gold-broken"),
            (2, "page gold-moved"),
        ]);
        // Many have one target, so that what is remembered of a page is used for others.
        let target = match self.random.below(4) {
            0 => format!("/person/{kind}?n=TOKEN"),
            1 => format!("/page/{kind}?n=TOKEN"),
            _ => format!("/page/{kind}"),
        };
        let mut ask = self.ask("page", "GET", &target).plan(plan).header("Accept", "text/html");
        ask.echoes = true;
        if self.random.share(20) {
            ask.kind = "page whose view the edge tells";
            ask = ask.header("User-Agent", format!("Quiet browser of {}", self.word));
        }
        if self.random.share(10) {
            ask = ask.header("If-None-Match", format!("\"/page/{kind}\""));
            ask = ask.header("Range", "bytes=0-99");
        }
        if self.random.share(50) {
            ask = ask.header("Sec-Fetch-Dest", "document").header("Sec-Fetch-Mode", "navigate");
        }
        // Some go to another page, by their profile.
        ask.answered(&[200, 302])
    }

    /// What a script fetches, or a part of a page.
    pub(super) fn file(&mut self) -> Ask {
        let plan = self.random.weighted(&[
            (3, ""),
            (2, "chunked"),
            (1, "chunked trailer"),
            (1, "gzip"),
            (1, "close"),
            (1, "old"),
            (1, "cookie"),
            (1, "hints"),
            (1, "slow"),
            (1, "large"),
            (1, "none"),
            (1, "moved"),
            (1, "gone"),
            (1, "broken"),
            (2, "etag same"),
            (2, "part"),
        ]);
        let target = if self.random.share(50) { "/file?n=TOKEN" } else { "/file" };
        let mut ask = self.ask("file", "GET", target).plan(plan);
        ask.echoes = true;
        if self.random.share(50) {
            ask.kind = "fetch";
            ask = ask.header("Sec-Fetch-Dest", "empty").header("Sec-Fetch-Mode", "cors");
        }
        match plan {
            "etag same" => ask = ask.header("If-None-Match", "\"/file\""),
            "part" => ask = ask.header("Range", "bytes=0-99"),
            _ => {}
        }
        let status: &'static [u16] = match plan {
            "none" => &[204],
            "moved" => &[302],
            "gone" => &[404],
            "broken" => &[500],
            "etag same" => &[304],
            "part" => &[206],
            _ => &[200],
        };
        ask.answered(status)
    }

    pub(super) fn head(&mut self) -> Ask {
        let mut ask = if self.random.share(50) { self.page() } else { self.file() };
        (ask.kind, ask.method) = ("HEAD", "HEAD");
        ask
    }

    /// A request whose answer the origin spoils.
    pub(super) fn spoilt(&mut self) -> Ask {
        let how = *self.random.pick(&["cut", "double", "junk", "cut chunked", "double chunked"]);
        let page = self.random.share(50);
        let more = *self.random.pick(&[
            "",
            " page",
            " page etag",
            " gzip",
            " none",
            " slow",
            " page large",
        ]);
        let ask = if page { self.page() } else { self.file() };
        let mut ask = ask.plan(&format!("{how}{more}")).hostile();
        ask.kind = "spoilt answer";
        if self.random.share(20) {
            ask.method = "HEAD";
        }
        ask
    }

    /// A client that leaves while the answer comes.
    pub(super) fn left(&mut self) -> Ask {
        let ask = if self.random.share(50) { self.page() } else { self.file() };
        let plan = *self.random.pick(&["large", "large page", "slow large chunked", "slow page"]);
        let mut ask = ask.plan(plan).hostile();
        (ask.kind, ask.manner) = ("answer that nobody takes", Manner::Left);
        ask
    }
}
