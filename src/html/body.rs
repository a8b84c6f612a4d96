//! One page's body: decoded, given its snippet, encoded again, chunk by chunk.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::coding::{Coding, Decoder, Encoder};
use super::{Edited, Places, Plan, Rewriter, Title};
use crate::spare::Spare;
use crate::telemetry::Rewrite;

/// A page's body on its way to one visitor.
#[derive(Default)]
pub enum Body {
    /// Not ours to change, or nothing left to change: bytes pass as they are.
    #[default]
    Untouched,
    /// Not changed, and its title read.
    Read(Arc<Mutex<Title>>),
    /// Up to the last place where anything can match.
    Plain(Box<Plain>),
    /// Fewer bytes were added than promised: white space makes up for them at the end.
    Short(usize),
    /// Compressed: decoded and encoded again to the end.
    Coded(Box<Coded>),
}

/// A page that is not compressed.
pub struct Plain {
    rewriter: Rewriter,
    /// By how much the page has been promised to grow, in bytes, where the answer's length has been told.
    promised: Option<isize>,
    /// By how much it has grown.
    grown: isize,
}

/// What has become of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Of the snippet, where one was to be put in.
    pub outcome: Option<Rewrite>,
    /// Of the edits, where there were any.
    pub edited: Option<Edited>,
    /// Where its place was, if it was plain to see: for the next time.
    pub plan: Option<Plan>,
    /// Where its elements were found, if that was not known: for the next time.
    pub places: Option<Arc<Places>>,
    /// It has grown by less than was promised.
    pub short: bool,
}

/// What a compressed page passes through. `None` once it is finished.
pub struct Coded(Option<Decoder<Stage>>);

/// Between decoder and encoder.
struct Stage {
    rewriter: Rewriter,
    told: bool,
    encoder: Encoder,
    scratch: Vec<u8>,
    /// Something of the page could be decoded.
    has_some: bool,
}

/// The origin's compressed page is broken, or the rewriter is: what follows can't be known.
#[derive(Debug, thiserror::Error)]
#[error("the page is broken: {0}")]
pub struct Broken(#[from] io::Error);

impl Body {
    /// A body without coding, which `rewriter` makes longer by at most `promised` bytes, where the answer's
    /// length has been told: white space makes up for what it does not.
    #[must_use]
    pub fn plain(rewriter: Rewriter, promised: Option<isize>) -> Self {
        Self::Plain(Box::new(Plain { rewriter, promised, grown: 0 }))
    }

    /// A body in `coding`, of which `rewriter` makes another.
    #[must_use]
    pub fn new(coding: Coding, rewriter: Rewriter) -> Self {
        if coding == Coding::Identity {
            return Self::plain(rewriter, None);
        }
        let (encoder, scratch) = (Encoder::new(coding), Vec::new());
        let stage = Stage { rewriter, told: false, encoder, scratch, has_some: false };
        Self::Coded(Box::new(Coded(Some(Decoder::new(coding, stage)))))
    }

    /// Whether the page is looked at as it passes, rather than put together at places known before.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Self::Untouched | Self::Short(_) => false,
            Self::Plain(plain) => plain.promised.is_none(),
            Self::Read(_) | Self::Coded(_) => true,
        }
    }

    /// Puts in place of `chunk` what the visitor gets. Says what became of the page, once.
    ///
    /// # Errors
    /// When a compressed page can't be read or the rewriter fails: it has to end here.
    pub fn pass(&mut self, chunk: &mut Option<Bytes>, end: bool) -> Result<Option<Passed>, Broken> {
        match self {
            Self::Untouched => Ok(None),
            Self::Read(title) => {
                if let Some(bytes) = chunk {
                    title.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
                }
                Ok(None)
            }
            Self::Short(missing) => {
                if end {
                    let mut out = chunk.take().unwrap_or_default().to_vec();
                    out.resize(out.len() + *missing, b' ');
                    *chunk = Some(out.into());
                }
                Ok(None)
            }
            Self::Plain(plain) => {
                let Plain { rewriter, promised, grown } = &mut **plain;
                let bytes = chunk.take().unwrap_or_default();
                let mut out = Spare::with_capacity(bytes.len() + rewriter.adds());
                rewriter.push(&bytes, &mut out).map_err(io::Error::other)?;
                if end {
                    rewriter.end(&mut out).map_err(io::Error::other)?;
                }
                *grown =
                    grown.saturating_add_unsigned(out.len()).saturating_sub_unsigned(bytes.len());
                *chunk = Some(Bytes::from_owner(out));
                if !end && !rewriter.is_over() {
                    return Ok(None);
                }
                let mut passed = rewriter.passed();
                let missing = promised.map_or(0, |promised| promised.saturating_sub(*grown));
                let missing = usize::try_from(missing).unwrap_or(0);
                passed.short = missing > 0;
                *self = if missing > 0 { Self::Short(missing) } else { Self::Untouched };
                if end {
                    self.pass(chunk, end)?;
                }
                Ok(Some(passed))
            }
            Self::Coded(coded) => {
                let bytes = chunk.take().unwrap_or_default();
                let (out, passed) = coded.pass(&bytes, end)?;
                *chunk = Some(out.into());
                if end {
                    *self = Self::Untouched;
                }
                Ok(passed)
            }
        }
    }
}

impl Coded {
    fn pass(&mut self, bytes: &[u8], end: bool) -> Result<(Vec<u8>, Option<Passed>), Broken> {
        let Some(decoder) = &mut self.0 else { return Ok((Vec::new(), None)) };
        decoder.write_all(bytes)?;
        // What has been decoded goes out now, not with the next chunk.
        decoder.flush()?;
        if !end {
            let stage = decoder.inner();
            let passed = (stage.rewriter.is_over() && !stage.told).then(|| stage.tell());
            return Ok((stage.encoder.take()?, passed));
        }
        let Some(decoder) = self.0.take() else { return Ok((Vec::new(), None)) };
        let (mut stage, whole) = decoder.finish();
        match whole {
            Err(error) if error.kind() == io::ErrorKind::InvalidData && !stage.has_some => {
                return Err(error.into());
            }
            // A browser shows what there is of it.
            Err(error) => tracing::debug!(%error, "a page is not whole"),
            Ok(()) => {}
        }
        stage.scratch.clear();
        stage.rewriter.end(&mut stage.scratch).map_err(io::Error::other)?;
        stage.encoder.write_all(&stage.scratch)?;
        let passed = (!stage.told).then(|| stage.tell());
        Ok((stage.encoder.finish()?, passed))
    }
}

impl Stage {
    fn tell(&mut self) -> Passed {
        self.told = true;
        // Where it was decoded, the place is not that of the bytes.
        Passed { plan: None, places: None, ..self.rewriter.passed() }
    }
}

impl Rewriter {
    fn passed(&self) -> Passed {
        let places = self.learned();
        let (outcome, edited, plan) = (self.outcome(), self.edited(), self.plan());
        Passed { outcome, edited, plan, places, short: false }
    }
}

impl Write for Stage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.has_some |= !bytes.is_empty();
        self.scratch.clear();
        self.rewriter.push(bytes, &mut self.scratch).map_err(io::Error::other)?;
        self.encoder.write_all(&self.scratch)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        // The encoder is flushed once for each chunk that goes out, not for each that comes in.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::{Csp, Injector, Markup, OwnFiles};

    fn injector_markup() -> Markup {
        let (csp, own) = (Csp::default(), OwnFiles::default());
        Markup { script: "S".into(), path: "/s.js".into(), keep: None, csp, own }
    }

    fn injector() -> Injector {
        Injector::new(injector_markup())
    }

    fn snippet() -> Rewriter {
        Rewriter::new(None, Some(injector()))
    }

    fn through(coding: Coding, body: &[u8], size: usize) -> Result<Vec<u8>, Broken> {
        let mut page = Body::new(coding, snippet());
        let mut out = Vec::new();
        let mut chunks = body.chunks(size).peekable();
        while let Some(chunk) = chunks.next() {
            let mut chunk = Some(Bytes::copy_from_slice(chunk));
            page.pass(&mut chunk, chunks.peek().is_none())?;
            out.extend_from_slice(&chunk.unwrap());
        }
        Ok(out)
    }

    #[test]
    fn every_coding_and_chunking_gives_the_same_page() {
        let page = format!("<head></head><body>{}", "<p>hello</p>".repeat(2000));
        let expected = page.replace("</head>", "<script>S</script></head>");
        for coding in [Coding::Identity, Coding::Gzip, Coding::Brotli] {
            let body = coding.encode_once(page.as_bytes()).unwrap();
            for size in [1, 7, 1000, 1 << 20] {
                let out = through(coding, &body, size).unwrap();
                let out = coding.decode_all(&out, 1 << 20).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{coding:?} {size}");
            }
        }
    }

    #[test]
    fn the_head_leaves_before_the_rest_has_come() {
        for coding in [Coding::Gzip, Coding::Brotli] {
            let mut encoder = Encoder::new(coding);
            encoder.write_all(b"<head></head><body>").unwrap();
            let head = encoder.take().unwrap();
            let mut page = Body::new(coding, snippet());
            let mut chunk = Some(Bytes::from(head));
            let outcome = page.pass(&mut chunk, false).unwrap();
            assert_eq!(outcome.unwrap().outcome, Some(Rewrite::Injected));
            let mut decoder = Decoder::new(coding, Vec::new());
            decoder.write_all(&chunk.unwrap()).unwrap();
            decoder.flush().unwrap();
            assert_eq!(decoder.inner(), b"<head><script>S</script></head><body>", "{coding:?}");
        }
    }

    #[test]
    fn what_was_promised_is_kept_whatever_the_page_turns_out_to_be() {
        let whole = "<head><title>t</title></head><body>x";
        let expected = injector_markup().length().unwrap();
        let mut body = Body::plain(snippet(), isize::try_from(expected).ok());
        let mut chunk = Some(Bytes::from(whole));
        let passed = body.pass(&mut chunk, true).unwrap().unwrap();
        assert_eq!(chunk.unwrap().len(), whole.len() + expected);
        let plan = passed.plan.unwrap();
        let nonce = format!(
            "<head><meta http-equiv=content-security-policy content=\"script-src 'nonce-{}'\"></head>",
            "x".repeat(200)
        );
        for (page, outcome) in [
            (whole, Rewrite::Injected),
            ("<head><title>u</title></head><body>x", Rewrite::Injected),
            ("<head><script>SNIPPET_VERSION</script></head>", Rewrite::Present),
            ("<title>t</title>", Rewrite::NoPlace),
            (
                "<head><meta http-equiv=content-security-policy content=\"script-src 'self'\"></head>",
                Rewrite::External,
            ),
            // More than was promised.
            (&*nonce, Rewrite::Forbidden),
        ] {
            for size in [1, 7, 1000] {
                let injector = injector().with_plan(Some(plan)).within(Some(200));
                let mut body = Body::plain(Rewriter::new(None, Some(injector)), Some(200));
                let (mut out, mut outcomes) = (Vec::new(), Vec::new());
                let mut chunks = page.as_bytes().chunks(size).peekable();
                while let Some(chunk) = chunks.next() {
                    let mut chunk = Some(Bytes::copy_from_slice(chunk));
                    outcomes.extend(body.pass(&mut chunk, chunks.peek().is_none()).unwrap());
                    out.extend_from_slice(&chunk.unwrap());
                }
                assert_eq!(out.len(), page.len() + 200, "{page}");
                assert_eq!(
                    outcomes.iter().map(|passed| passed.outcome).collect::<Vec<_>>(),
                    [Some(outcome)]
                );
            }
        }
    }

    #[test]
    fn of_a_broken_page_there_is_what_a_browser_would_show() {
        let page =
            (0..2000).fold(String::new(), |page, n: u32| page + "<p>" + &(n * n).to_string());
        for coding in [Coding::Gzip, Coding::Brotli] {
            let body = coding.encode_once(page.as_bytes()).unwrap();
            let half = &body[..body.len() / 2];
            for broken in [half.to_vec(), [&body, &b"\n\0x"[..]].concat()] {
                let shown = through(coding, &broken, 10).unwrap();
                let shown = String::from_utf8(coding.decode_all(&shown, 1 << 20).unwrap()).unwrap();
                assert!(shown.len() > page.len() / 4, "{coding:?} {}", shown.len());
            }
            assert!(coding != Coding::Gzip || through(coding, b"<p>plain", 10).is_err());
        }
    }
}
