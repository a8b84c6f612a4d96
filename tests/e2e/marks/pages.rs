//! Requests that the origin answers: pages, files, uploads, tunnels.

use super::ask::{Ask, Manner, Upload};
use super::browser::Browser;
use super::http1::{Line, ends};

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
            (1, "page gold-gone"),
            (1, "page gold-broken"),
            (1, "page gold-moved"),
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

    /// A body that would be requests, if it were read as such.
    fn body(&mut self, ask: &Ask) -> Vec<u8> {
        let token = &ask.token;
        let host = self.site.host();
        let inner = format!(
            "GET /stolen?n={token} HTTP/1.1\r\nHost: {host}\r\nX-Ask: {token}\r\nX-Of: {}\r\n\r\n",
            self.word
        );
        let times = self.random.weighted(&[(2, 0), (10, 1), (5, 5), (2, 100), (1, 1000)]);
        let mut body = inner.repeat(times).into_bytes();
        body.truncate(body.len() - body.len().min(self.random.below(40)));
        body
    }

    /// `body` in one of the framings.
    fn frame(&mut self, body: Vec<u8>) -> Upload {
        if self.random.share(40) {
            return Upload::Told(body);
        }
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        while !rest.is_empty() {
            let longest = rest.len().min(20_000);
            let (piece, behind) = rest.split_at(1 + self.random.below(longest));
            pieces.push(piece.to_vec());
            rest = behind;
        }
        // Over HTTP/2 a body may have frames without bytes, and end with one.
        for _ in 0..self.random.below(3) {
            pieces.insert(self.random.below(pieces.len() + 1), Vec::new());
        }
        if self.random.share(50) || pieces.is_empty() {
            pieces.push(Vec::new());
        }
        Upload::Pieces(pieces)
    }

    pub(super) fn upload(&mut self) -> Ask {
        let plan = self.random.weighted(&[
            (4, ""),
            (2, "chunked"),
            (1, "page"),
            (1, "continue"),
            (1, "slow"),
            (1, "none"),
            (1, "moved"),
            (1, "broken"),
            (1, "cookie"),
        ]);
        let method = *self.random.pick(&["POST", "PUT", "PATCH", "DELETE"]);
        let target = *self.random.pick(&["/upload", "/upload?n=TOKEN", "/page/one?n=TOKEN"]);
        let mut ask = self.ask("upload", method, target).plan(plan);
        let body = self.body(&ask);
        ask.upload = self.frame(body);
        ask.echoes = true;
        if self.random.share(30) {
            ask.kind = "upload of a script";
            ask = ask.header("Sec-Fetch-Dest", "empty");
        }
        ask.answered(match plan {
            "none" => &[204],
            "moved" => &[302],
            "broken" => &[500],
            _ => &[200],
        })
    }

    /// The client waits to be asked for the body.
    pub(super) fn asked(&mut self) -> Ask {
        let mut ask = self.upload().header("Expect", "100-continue");
        (ask.kind, ask.manner) = ("upload that waits to be asked for", Manner::Asked);
        let plan = *self.random.pick(&["continue", "continue", "", "early", "early none"]);
        let early = plan.starts_with("early");
        let ask = ask.plan(plan).answered(&[200]);
        if early { ask.hostile() } else { ask }
    }

    /// The client leaves in the middle of its request.
    pub(super) fn abandoned(&mut self) -> Ask {
        let plan = *self.random.pick(&["", "early rude", "continue", "page"]);
        let ask = self.upload();
        let plan = if has_halves(&ask.upload) { plan } else { "" };
        let mut ask = ask.plan(plan).hostile();
        (ask.kind, ask.manner) = ("upload that breaks off", Manner::Abandoned);
        ask
    }

    /// The origin answers before it has read the body. It takes the rest for requests, where that comes later.
    pub(super) fn early(&mut self) -> Ask {
        let how = *self.random.pick(&["", " chunked", " none", " page", " close"]);
        let mut ask = self.upload().hostile();
        ask.kind = "upload that is answered early";
        if has_halves(&ask.upload) && self.random.share(70) {
            ask.manner = Manner::Late;
            return ask.plan(&format!("early rude{how}"));
        }
        ask.plan(&format!("early{how}"))
    }

    /// Chunks that servers could read in two ways.
    pub(super) fn broken_chunks(&mut self) -> Ask {
        let target =
            *self.random.pick(&["/upload?n=TOKEN", "/seg/evs/t", "/seg/line/x", "/page/one"]);
        let mut ask = self.ask("broken chunks", "POST", target).plan("");
        let broken = *self.random.pick(&[
            "\r\n\r\n",
            " \r\n\r\n",
            ";x=y\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "0\r\nbad\r\n\r\n",
            "0x2\r\n{}\r\n0\r\n\r\n",
            "-1\r\n{}\r\n0\r\n\r\n",
            "ffffffffffffffff2\r\n{}\r\n0\r\n\r\n",
            "2\r\n{}0\r\n\r\n",
        ]);
        let first = if self.random.share(50) { "2\r\n{}\r\n" } else { "" };
        let body = [first.as_bytes(), broken.as_bytes(), &self.body(&ask)].concat();
        ask.upload = Upload::Raw(body);
        ask.answered(&[400])
    }

    /// Several requests before the first answer.
    pub(super) async fn pipeline(&mut self) {
        let mut asks = Vec::new();
        for _ in 0..2 + self.random.below(3) {
            let mut ask = match self.random.below(4) {
                0 => self.page(),
                1 => self.upload(),
                2 => self.traits(),
                _ => self.file(),
            };
            ask.kind = "one of several at once";
            // Where the answer before it ends the connection, nothing comes.
            asks.push(ask.hostile());
        }
        let (edge, secure) = (self.random.below(2), self.random.share(30));
        let mut line = Line::open(&self.world, edge, secure, self.site.host()).await;
        for ask in &asks {
            self.world.ledger.asked(ask.kind);
        }
        let all = line.pipeline(&asks).await;
        for (ask, told) in asks.iter().zip(&all) {
            if told.answer.is_none() {
                break;
            }
            self.world.ledger.saw("answers to several requests at once");
            self.world.judge(ask, told);
            self.keep(told);
            if ends(told) {
                break;
            }
        }
    }

    /// A web socket, on which each byte comes back.
    pub(super) async fn tunnel(&mut self) {
        let ask = self
            .ask("web socket", "GET", "/socket")
            .plan("tunnel")
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .hostile();
        let (edge, secure) = (self.random.below(2), self.random.share(30));
        let mut line = Line::open(&self.world, edge, secure, self.site.host()).await;
        self.world.ledger.asked(ask.kind);
        let told = line.exchange(&ask).await;
        self.world.judge(&ask, &told);
        if told.status() != 101 {
            self.world.ledger.failed(ask.kind);
            return;
        }
        for number in 0..3 {
            let frame = format!("\u{1}{} {number}\u{2}", ask.token);
            let Some(came) = line.talk(frame.as_bytes(), b"\x02").await else {
                self.world.ledger.failed(ask.kind);
                return;
            };
            if came == frame.as_bytes() {
                self.world.ledger.saw("frames of a web socket");
            } else {
                let came = String::from_utf8_lossy(&came);
                self.world.ledger.fault(format!("{came} comes back for {frame}"));
            }
        }
    }
}

/// Whether something of a body is left when half of it has been sent.
fn has_halves(upload: &Upload) -> bool {
    match upload {
        Upload::Told(body) => body.len() > 1,
        Upload::Pieces(pieces) => pieces.len() > 1,
        Upload::Nothing | Upload::Raw(_) => false,
    }
}
