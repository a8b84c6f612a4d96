//! All that is done to a page's bytes: its elements are changed, then the snippet is put in.

use std::sync::Arc;

use super::beginning::{self, Beginning, Wanted};
use super::editor::Lost;
use super::{Editor, Injector, Places, Plan};
use crate::telemetry::Rewrite;

/// A page on its way. What is not to be done is not there.
#[derive(Default)]
pub struct Rewriter {
    editor: Option<Editor>,
    injector: Option<Injector>,
    scratch: Vec<u8>,
    gate: Gate,
}

/// Whether the page may be changed at all, which its first bytes say.
enum Gate {
    /// They have not come. Those that have wait here: [`beginning::MAX_BYTES`] of them at most.
    Waits(Wanted, Vec<u8>),
    Open,
    Shut,
}

impl Default for Gate {
    fn default() -> Self {
        Self::Waits(Wanted::default(), Vec::new())
    }
}

/// About what edits add to a page, in bytes.
const EDITS: usize = 1024;

/// What became of a page's edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// Elements changed.
    pub changed: usize,
    /// The parser gave up before the end.
    pub gave_up: bool,
}

impl Rewriter {
    /// Puts in what `injector` has, behind what `editor` makes of the page.
    #[must_use]
    pub fn new(editor: Option<Editor>, injector: Option<Injector>) -> Self {
        Self { editor, injector, scratch: Vec::new(), gate: Gate::default() }
    }

    /// Changes only what is `wanted`.
    #[must_use]
    pub fn only(mut self, wanted: Wanted) -> Self {
        self.gate = Gate::Waits(wanted, Vec::new());
        self
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Lost> {
        match &mut self.gate {
            Gate::Open => return self.change(bytes, out),
            Gate::Shut => {}
            Gate::Waits(wanted, held) => {
                let (wanted, mut first) = (*wanted, std::mem::take(held));
                let all = if first.is_empty() {
                    bytes
                } else {
                    first.extend_from_slice(bytes);
                    &first
                };
                // However it is cut, the same bytes are judged.
                let first_bytes = all.get(..beginning::MAX_BYTES);
                let begins = match first_bytes {
                    Some(first_bytes) => Some(Beginning::of_all(first_bytes)),
                    None => Beginning::of(all),
                };
                if let Some(begins) = begins {
                    self.gate = if begins.is(wanted) { Gate::Open } else { Gate::Shut };
                    return self.push(all, out);
                }
                if first.is_empty() {
                    first.extend_from_slice(bytes);
                }
                self.gate = Gate::Waits(wanted, first);
                return Ok(());
            }
        }
        if let Some(injector) = &self.injector {
            injector.read_title(bytes);
        }
        out.extend_from_slice(bytes);
        Ok(())
    }

    fn change(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Lost> {
        match (&mut self.editor, &mut self.injector) {
            (Some(editor), Some(injector)) if injector.is_through() => editor.push(bytes, out)?,
            (Some(editor), Some(injector)) if !editor.is_over() => {
                self.scratch.clear();
                self.scratch.reserve(bytes.len() + EDITS);
                editor.push(bytes, &mut self.scratch)?;
                injector.push(&self.scratch, out);
            }
            (Some(editor), None) => editor.push(bytes, out)?,
            (_, Some(injector)) => injector.push(bytes, out),
            (None, None) => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Adds to `out` what is left at the end of the page.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Lost> {
        if let Gate::Waits(wanted, held) = &mut self.gate {
            let (wanted, held) = (*wanted, std::mem::take(held));
            let opens = Beginning::of_all(&held).is(wanted);
            self.gate = if opens { Gate::Open } else { Gate::Shut };
            self.push(&held, out)?;
        }
        if matches!(self.gate, Gate::Shut) {
            return Ok(());
        }
        if let Some(editor) = &mut self.editor {
            self.scratch.clear();
            let into = if self.injector.is_some() { &mut self.scratch } else { &mut *out };
            editor.end(into)?;
        }
        if let Some(injector) = &mut self.injector {
            injector.push(&self.scratch, out);
            injector.end(out);
        }
        self.scratch = Vec::new();
        Ok(())
    }

    /// Whether all bytes pass as they are from here on.
    pub(super) fn is_over(&self) -> bool {
        match self.gate {
            Gate::Waits(..) => return false,
            Gate::Shut => return true,
            Gate::Open => {}
        }
        self.editor.as_ref().is_none_or(Editor::is_over)
            && self.injector.as_ref().is_none_or(|injector| injector.outcome().is_some())
    }

    /// What has become of the snippet.
    pub(super) fn outcome(&self) -> Option<Rewrite> {
        let injector = self.injector.as_ref()?;
        if matches!(self.gate, Gate::Shut) {
            return Some(Rewrite::NoDocument);
        }
        injector.outcome()
    }

    /// What has become of the edits.
    pub(super) fn edited(&self) -> Option<Edited> {
        let editor = self.editor.as_ref()?;
        Some(Edited { changed: editor.changed(), gave_up: editor.gave_up() })
    }

    /// Where the snippet's place was.
    pub(super) fn plan(&self) -> Option<Plan> {
        self.injector.as_ref().filter(|_| self.editor.is_none()).and_then(Injector::plan)
    }

    /// Where its elements were found, if they were not known.
    pub(super) fn learned(&self) -> Option<Arc<Places>> {
        self.editor.as_ref().and_then(Editor::learned).map(Arc::clone)
    }

    /// About the most bytes that are added to a page.
    pub(super) fn adds(&self) -> usize {
        self.injector.as_ref().map_or(0, Injector::adds)
            + if self.editor.is_some() { EDITS } else { 0 }
    }
}
