//! A page's bytes on their way to one visitor: what is done to them, and how long they become.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::{Context, Page};
use super::form::{Form, comes_from_a_browser};
use super::response::{is_ascii_compatible, text};
use crate::decide::Target;
use crate::html::{
    Body, Coding, Csp, Edit, Edited, Editor, Injector, Keep, Known, Markup, OwnFiles, PageKey,
    Plans, Rewriter, Title, Wanted,
};
use crate::site::Site;
use crate::telemetry::{Edits, Feature, Rewrite, guard};
use crate::vendor::Handover;

/// Sets up what is done to the page's bytes: whether anything is.
pub(super) fn rewrite(
    context: &mut Context,
    plans: &Plans,
    site: &Site,
    known_by: Option<KnownBy>,
    wanted: Wanted,
    (handover, edits, title): (Handover<'_>, &[Edit], Option<Arc<Mutex<Title>>>),
    response: &mut ResponseHeader,
) -> Result<bool> {
    let coding = Coding::of(text(response, &header::CONTENT_ENCODING));
    if site.snippet.is_none() && edits.is_empty() {
        if let (Some(title), Some(Coding::Identity)) = (title, coding) {
            context.body = Body::Read(title);
        }
        return Ok(false);
    }
    let Some(coding) = coding.filter(|_| is_ascii_compatible(response)) else {
        if site.snippet.is_some() {
            site.metrics.rewrite(Rewrite::Unreadable);
        }
        if !edits.is_empty() {
            site.metrics.edit(Edits::Unreadable);
        }
        return Ok(false);
    };
    let own = OwnFiles {
        host: context.authority.host().to_owned(),
        port: context.authority.port().filter(|port| !matches!(port, 80 | 443)),
        below: format!("{}/", site.prefix.as_str()),
    };
    let mut csp = Csp::default();
    for policy in response.headers.get_all(header::CONTENT_SECURITY_POLICY) {
        csp.add(policy.to_str().unwrap_or("default-src 'none'"), &own);
    }
    let known_by = known_by.filter(|_| coding == Coding::Identity);
    let known_by = match edits {
        [] => known_by,
        // Where the elements are changes with any byte before them.
        edits => known_by
            .filter(|known_by| known_by.vouched)
            .map(|known_by| KnownBy { key: known_by.key.of_edits(edits), ..known_by }),
    };
    let known =
        known_by.filter(|_| !edits.is_empty()).and_then(|known_by| plans.known(known_by.key));
    let made = guard(Feature::Rewriting, || {
        let keep = Keep::of(edits, &site.keep_path);
        let editor = (!edits.is_empty()).then(|| Editor::new(edits.to_vec()));
        // None where the origin does not vouch for the page, or has done so in vain.
        let places = match (known_by, &known) {
            (None, _) | (_, Some(None)) => None,
            (Some(_), None) => Some(None),
            (Some(_), Some(Some(known))) => Some(Some(Arc::clone(&known.places))),
        };
        let editor = match (editor, places) {
            (Some(editor), Some(places)) => Some(editor.with_places(places)),
            (editor, _) => editor,
        };
        if site.snippet.is_none() && keep.is_none() {
            return (editor, None, None);
        }
        let script = site.snippet.as_ref().map(|snippet| snippet.script(handover));
        let path = site.snippet.as_ref().map(|one| one.external_path(handover.page_call));
        let (script, path) = (script.unwrap_or_default(), path.unwrap_or_default());
        let markup = Markup { script, path, keep, csp, own };
        let adds = markup.length();
        (editor, Some(Injector::new(markup).with_title(title)), adds)
    });
    let Some((editor, injector, adds)) = made else { return Ok(false) };
    let plan = known_by.filter(|_| edits.is_empty()).and_then(|known_by| plans.get(known_by.key));
    // Of a page that has been seen before it is known by how much it grows.
    let by_edits = match &editor {
        None => plan.is_some().then_some(0),
        Some(editor) => editor.grows(),
    };
    let by_snippet = match (&injector, known.flatten()) {
        (Some(_), Some(Known { injected: false, .. })) => None,
        (Some(_), _) => adds,
        (None, _) => Some(0),
    };
    let grows =
        by_edits.zip(by_snippet).and_then(|(edits, snippet)| edits.checked_add_unsigned(snippet));
    let length =
        known_by.zip(grows).and_then(|(known_by, grows)| known_by.length.checked_add_signed(grows));
    context.known_by = known_by.map(|known_by| (known_by.key, plan.is_some()));
    let most = adds.filter(|_| length.is_some());
    let injector = injector.map(|injector| injector.with_plan(plan).within(most));
    let rewriter = Rewriter::new(editor, injector).only(wanted);
    if let Some(length) = length {
        context.body = Body::plain(rewriter, grows);
        response.insert_header(header::CONTENT_LENGTH, length)?;
        return Ok(true);
    }
    context.body = Body::new(coding, rewriter);
    response.remove_header(&header::CONTENT_LENGTH);
    response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    Ok(true)
}

/// A page that may have been seen before.
#[derive(Clone, Copy)]
pub(super) struct KnownBy {
    key: PageKey,
    /// In bytes, as it comes from the origin.
    length: usize,
    /// The origin vouches for its bytes, by a strong ETag (RFC 9110, 8.8.1). Otherwise it is what stands under
    /// the same address, and mostly much the same.
    vouched: bool,
}

/// By what a page would be known again, where its length is told.
pub(super) fn known_by(
    session: &Session,
    (site, host): (&Site, &str),
    page: &Page,
    response: &ResponseHeader,
) -> Option<KnownBy> {
    if response.headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    let told = response.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    let length = told.parse().ok()?;
    let etag = response.headers.get(header::ETAG).map_or(&b""[..], |etag| etag.as_bytes());
    let vouched = etag.starts_with(b"\"");
    // White space has to make up for a snippet that finds no place after all: not where somebody else than a
    // browser reads it, and not where nothing comes that it could come with.
    if !vouched && (length == 0 || !page.safe || !comes_from_a_browser(session.req_header())) {
        return None;
    }
    let (etag, told) = if vouched { (etag, told.as_bytes()) } else { (&b""[..], &b""[..]) };
    let target = session.req_header().raw_path();
    // Pages that are chosen for a visitor stand under one target.
    let chosen = match page.target() {
        Some(Target::Other { path, .. }) => path.as_deref().unwrap_or_default(),
        _ => "",
    };
    let origin = page.other_origin().unwrap_or(usize::MAX).to_le_bytes();
    let (site, host) = (site.name.as_bytes(), host.as_bytes());
    // What is a page in one form is a part of one in another.
    let whole: &[u8] = if page.form == Form::Shown { b"" } else { b"whole" };
    let key = PageKey::of(&[site, host, target, chosen.as_bytes(), &origin, etag, told, whole]);
    Some(KnownBy { key, length, vouched })
}

/// Moves a page's body on. An error ends the answer: nothing more can be known of it.
pub(super) fn body(
    context: &mut Context,
    plans: &Plans,
    chunk: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    if matches!(context.body, Body::Untouched) {
        return Ok(());
    }
    // With all else the clock would cost as much as what it measures.
    let started = context.body.is_read().then(Instant::now);
    let passed = guard(Feature::Rewriting, || context.body.pass(chunk, end));
    context.added += started.map_or(Duration::ZERO, |started| started.elapsed());
    let Some(site) = &context.site else { return Ok(()) };
    match passed {
        Some(Ok(None)) => Ok(()),
        Some(Ok(Some(passed))) => {
            if let (Some(outcome), true) = (passed.outcome, site.snippet.is_some()) {
                site.metrics.rewrite(outcome);
            }
            if let Some(edited) = passed.edited {
                site.metrics.edit(match edited {
                    Edited { gave_up: true, .. } => Edits::GaveUp,
                    Edited { changed: 0, .. } => Edits::Nothing,
                    Edited { .. } => Edits::Changed,
                });
            }
            let Some((key, planned)) = context.known_by else { return Ok(()) };
            match passed.plan {
                // It had a place, and has none any more.
                _ if passed.short => plans.forget(key),
                Some(plan) if !planned => plans.put(key, plan),
                _ => {}
            }
            let astray = passed.edited.is_some_and(|edited| edited.gave_up);
            if astray || passed.places.is_some() {
                let injected = passed.outcome == Some(Rewrite::Injected);
                let places = passed.places.filter(|_| !astray);
                plans.know(key, places.map(|places| Known { places, injected }));
            }
            Ok(())
        }
        Some(Err(broken)) => {
            site.metrics.rewrite(Rewrite::Broken);
            context.body = Body::Untouched;
            Error::e_because(ErrorType::new("broken page"), "rewriting", broken)
                .map_err(Error::into_up)
        }
        None => {
            context.body = Body::Untouched;
            Error::e_explain(ErrorType::InternalError, "rewriting a compressed page panicked")
        }
    }
}
