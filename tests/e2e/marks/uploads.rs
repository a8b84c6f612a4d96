//! Requests with bodies, whole and broken.

use super::ask::{Ask, Manner, Upload};
use super::browser::Browser;

impl Browser {
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
            return Upload::Sized(body);
        }
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        while !rest.is_empty() {
            // Many small ones would end the connection (`ENHANCE_YOUR_CALM`), with what others ask on it.
            let longest = rest.len().min(20_000);
            let length = (200 + self.random.below(longest)).min(longest);
            let (piece, behind) = rest.split_at(length);
            pieces.push(piece.to_vec());
            rest = behind;
        }
        // Over HTTP/2 a body may have frames without bytes, and end with one.
        for _ in 0..self.random.below(2) {
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
        if !has_halves(&ask.upload) {
            // There is nothing to wait for.
            return ask;
        }
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

    /// A body that the one who answers does not read: it must not be taken for the next request.
    pub(super) fn unread(&mut self) -> Ask {
        let (method, target) = *self.random.pick(&[
            ("GET", "/file?n=TOKEN"),
            ("GET", "/page/one"),
            ("HEAD", "/page/one"),
            ("GET", "/seg/traits"),
            ("POST", "/seg/traits"),
            ("POST", "/seg/snippet.js"),
            ("GET", "/seg/keep.js"),
            ("POST", "/seg/nothing"),
            ("DELETE", "/seg/reset"),
            ("POST", "/seg/profiles-webhook"),
            ("PUT", "/seg/evs/t"),
            ("POST", "/seg/evs/t"),
            ("GET", "/seg/assets/sdk.js"),
        ]);
        let mut ask = self.ask("body that nobody reads", method, target).plan("").hostile();
        if target.contains("/assets/") {
            ask.kind = "SDK";
        }
        if target == "/seg/evs/t" {
            ask = ask.header("Origin", "https://evil.test");
        }
        let body = self.body(&ask);
        ask.upload = self.frame(body);
        ask
    }
}

/// Whether something of a body is left when half of it has been sent.
fn has_halves(upload: &Upload) -> bool {
    match upload {
        Upload::Sized(body) => body.len() > 1,
        Upload::Pieces(pieces) => pieces.len() > 1,
        Upload::Nothing | Upload::Raw(_) => false,
    }
}
