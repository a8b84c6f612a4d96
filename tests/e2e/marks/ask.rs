//! A request, and what came back.

use std::io::Read;
use std::time::Duration;

use super::ledger::Scope;
use super::nodes::Site;
use crate::support::client::Answer;

/// What a request brings.
#[derive(Debug)]
pub(super) enum Upload {
    Nothing,
    /// With its length.
    Sized(Vec<u8>),
    /// In pieces, the last of which may be empty: in chunks, or without a length over HTTP/2.
    Pieces(Vec<Vec<u8>>),
    /// These bytes behind a head that announces chunks.
    Raw(Vec<u8>),
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Whole,
    /// The client leaves in the middle of the body.
    Abandoned,
    /// The client sends half of the body, and the rest once it has the answer.
    Late,
    /// The client leaves while the answer comes.
    Left,
    /// The client waits to be asked for the body.
    Asked,
}

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) kind: &'static str,
    pub(super) site: Site,
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) upload: Upload,
    pub(super) manner: Manner,
    /// What the origin is to do, in words (`origin`).
    pub(super) plan: String,
    pub(super) scope: Scope,
    /// The browser's mark with the request's number.
    pub(super) token: String,
    /// The browser takes the cookies that come.
    pub(super) keeps: bool,
    /// Statuses of an answer where nothing fails. None: nothing can be said of it.
    pub(super) statuses: &'static [u16],
    /// The origin's answer comes whole: with the request's own number, to its end.
    pub(super) echoes: bool,
}

impl Ask {
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// What the origin is to do. It is told in a header, so that two requests may have one target.
    pub(super) fn plan(mut self, plan: &str) -> Self {
        plan.clone_into(&mut self.plan);
        self.header("X-Plan", plan)
    }

    pub(super) fn upload(mut self, upload: Upload) -> Self {
        self.upload = upload;
        self
    }

    pub(super) fn answered(mut self, statuses: &'static [u16]) -> Self {
        self.statuses = statuses;
        self
    }

    /// Something in it fails on the way, or may: what comes back must not be another's, and that is all.
    pub(super) fn hostile(mut self) -> Self {
        (self.statuses, self.echoes) = (&[], false);
        self
    }

    /// So long the client stays that leaves in the middle: another time for each request.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.scope.number.unwrap_or_default() % 8)
    }

    /// As HTTP/1 has it.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.upload {
            Upload::Nothing => {}
            Upload::Sized(body) => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            Upload::Pieces(_) | Upload::Raw(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        (head + "\r\n").into_bytes()
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    /// Where it was one, to its end.
    pub(super) answer: Option<Answer>,
    /// All bytes that came; over HTTP/2 what they mean.
    pub(super) raw: Vec<u8>,
}

impl Response {
    pub(super) fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }

    /// The body as the browser shows it.
    pub(super) fn body(&self) -> Vec<u8> {
        let Some(answer) = &self.answer else { return Vec::new() };
        if answer.header("content-encoding") != Some("gzip") {
            return answer.body.clone();
        }
        let mut out = Vec::new();
        // What is broken is read as far as it goes.
        let _ = flate2::read::MultiGzDecoder::new(&answer.body[..]).read_to_end(&mut out);
        out
    }
}
