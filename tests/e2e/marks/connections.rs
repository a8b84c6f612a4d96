//! What takes a connection of its own.

use super::browser::Browser;
use super::http1::{Line, ends};

impl Browser {
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
        for (ask, response) in asks.iter().zip(&all) {
            if response.answer.is_none() {
                break;
            }
            self.world.ledger.saw("answers to several requests at once");
            self.world.judge(ask, response);
            self.keep(response);
            if ends(response) {
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
        let response = line.exchange(&ask).await;
        self.world.judge(&ask, &response);
        if response.status() != 101 {
            self.world.ledger.failed(ask.kind, &response.raw);
            return;
        }
        for number in 0..3 {
            let frame = format!("\u{1}{} {number}\u{2}", ask.token);
            let Some(came) = line.talk(frame.as_bytes(), b"\x02").await else {
                self.world.ledger.failed(ask.kind, b"the tunnel ends");
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
