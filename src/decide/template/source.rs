//! What stands in the source of a template: texts, values and blocks.

use crate::html::{Edge, Skeleton};

/// One piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'s> {
    Text(&'s str),
    /// What stands between `{{` and `}}`.
    Value(&'s str),
    /// What stands between `{%` and `%}`.
    Block(&'s str),
}

/// One piece of a template that is no more than texts and traits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<str>),
    /// The value of the trait of that name.
    Trait(Box<str>),
}

/// The source of a template in its pieces, as the engine reads it.
pub(super) struct Source<'s>(Vec<Piece<'s>>);

impl<'s> Source<'s> {
    /// Whether there is more than text.
    pub(super) fn is_template(source: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|open| source.contains(open))
    }

    /// Takes `source` apart. What is no template is left to the engine to complain about.
    pub(super) fn of(source: &'s str) -> Self {
        let (mut pieces, mut rest, mut trims) = (Vec::new(), source, false);
        let next = |rest: &str| {
            let opens = ["{{", "{%", "{#"].into_iter().filter_map(|open| rest.find(open));
            opens.min()
        };
        while let Some(at) = next(rest) {
            let (text, behind) = rest.split_at(at);
            let (open, inner) = behind.split_at_checked(2).unwrap_or((behind, ""));
            let text = if trims { text.trim_start() } else { text };
            pieces.push(Piece::Text(if inner.starts_with('-') { text.trim_end() } else { text }));
            let (close, is_code) = match open {
                "{{" => ("}}", true),
                "{%" => ("%}", true),
                _ => ("#}", false),
            };
            let length = if is_code { end_of_code(inner, close) } else { inner.find(close) };
            let length = length.unwrap_or(inner.len());
            let (code, behind) = inner.split_at(length);
            rest = behind.get(2..).unwrap_or_default();
            trims = code.ends_with('-');
            let code = code.strip_prefix(['-', '+']).unwrap_or(code);
            let code = code.strip_suffix(['-', '+']).unwrap_or(code).trim();
            match open {
                "{{" => pieces.push(Piece::Value(code)),
                "{%" if code == "raw" => {
                    let (text, behind) = raw(rest, &mut trims);
                    pieces.push(Piece::Text(text));
                    rest = behind;
                }
                "{%" => pieces.push(Piece::Block(code)),
                _ => {}
            }
        }
        pieces.push(Piece::Text(if trims { rest.trim_start() } else { rest }));
        Self(pieces)
    }

    /// The text with places for the values.
    ///
    /// # Errors
    /// It has something that can't stand between texts of a page.
    pub(super) fn skeleton(&self) -> Result<Skeleton<'static>, String> {
        let mut skeleton = Skeleton::default();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => {
                    skeleton.push_fixed(text).map_err(|error| error.to_string())?;
                }
                Piece::Value(_) => skeleton.push_place(),
                Piece::Block(code) => match word(code) {
                    "if" | "for" | "with" => skeleton.push_edge(Edge::Begin),
                    "elif" | "else" => skeleton.push_edge(Edge::Middle),
                    "endif" | "endfor" | "endwith" => skeleton.push_edge(Edge::End),
                    "set" if code.contains('=') => {}
                    "do" => {}
                    other => {
                        return Err(format!(
                            "`{{% {other} %}}` can't stand here: only `if`, `for`, `with`, `set` with `=`, `do` and \
                             `raw`"
                        ));
                    }
                },
            }
        }
        Ok(skeleton)
    }

    /// The text with `value` in the place of each value. `None` where blocks decide what it is.
    pub(super) fn filled(&self, value: &'s str) -> Option<String> {
        let filled = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => Some(*text),
            Piece::Value(_) => Some(value),
            Piece::Block(_) => None,
        });
        filled.collect()
    }

    /// Its texts and the names of its traits in turn, where there is nothing else: `Hello {{ traits.name }}`.
    pub(super) fn texts_and_traits(&self) -> Option<Vec<Part>> {
        let parts = self.0.iter().filter(|piece| !matches!(piece, Piece::Text("")));
        let parts = parts.map(|piece| match piece {
            Piece::Text(text) => Some(Part::Text((*text).into())),
            Piece::Value(code) => {
                let name = code.strip_prefix("traits.")?;
                (!name.is_empty() && word(name) == name).then(|| Part::Trait(name.into()))
            }
            Piece::Block(_) => None,
        });
        // The engine leaves a last line's end out.
        let ends_line = matches!(self.0.last(), Some(Piece::Text(text)) if text.ends_with('\n'));
        parts.collect::<Option<_>>().filter(|_| !ends_line)
    }

    /// The names of all filters that it asks for.
    pub(super) fn filters(&self) -> Vec<String> {
        let code = self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(code) | Piece::Block(code) => Some(without_strings(code)),
        });
        let names = code.flat_map(|code| {
            let behind = code.split('|').skip(1).map(|behind| word(behind).to_owned());
            behind.collect::<Vec<_>>()
        });
        names.filter(|name| !name.is_empty()).collect()
    }
}

/// The name at the beginning.
fn word(code: &str) -> &str {
    let code = code.trim_start();
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let end = code.find(|char| !is_part(char)).unwrap_or(code.len());
    let name = code.get(..end).unwrap_or_default();
    if name.starts_with(|char: char| char.is_ascii_digit()) { "" } else { name }
}

/// Where code ends that `close` closes: outside of brackets and texts.
fn end_of_code(inner: &str, close: &str) -> Option<usize> {
    let (mut depth, mut quote, mut skips) = (0_usize, None, false);
    for (at, char) in inner.char_indices() {
        if std::mem::take(&mut skips) {
            continue;
        }
        if let Some(own) = quote {
            skips = char == '\\';
            quote = Some(own).filter(|own| *own != char);
            continue;
        }
        match char {
            _ if depth == 0 && inner.get(at..)?.starts_with(close) => return Some(at),
            '"' | '\'' => quote = Some(char),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The text up to `{% endraw %}`, and what follows that.
fn raw<'s>(rest: &'s str, trims: &mut bool) -> (&'s str, &'s str) {
    let begins_trimmed = std::mem::take(trims);
    let mut from = 0;
    while let Some(at) = rest.get(from..).and_then(|rest| rest.find("{%")) {
        let at = from + at;
        let behind = rest.get(at + 2..).unwrap_or_default();
        let trims_end = behind.starts_with('-');
        let code = behind.strip_prefix(['-', '+']).unwrap_or(behind).trim_start();
        let code = code.strip_prefix("endraw").map(str::trim_start);
        let mark = code.map_or("", |code| code.get(..1).unwrap_or_default());
        let tail =
            code.and_then(|code| code.strip_prefix(['-', '+']).unwrap_or(code).strip_prefix("%}"));
        if let Some(tail) = tail {
            *trims = mark == "-";
            let text = rest.get(..at).unwrap_or_default();
            let text = if begins_trimmed { text.trim_start() } else { text };
            return (if trims_end { text.trim_end() } else { text }, tail);
        }
        from = at + 2;
    }
    (rest, "")
}

/// Code whose texts are empty.
fn without_strings(code: &str) -> String {
    let (mut out, mut quote, mut skips) = (String::with_capacity(code.len()), None, false);
    for char in code.chars() {
        match quote {
            Some(_) if std::mem::take(&mut skips) => {}
            Some(own) => {
                skips = char == '\\';
                quote = Some(own).filter(|own| *own != char);
            }
            None => {
                quote = Some(char).filter(|char| matches!(char, '"' | '\''));
                out.push(char);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_the_engine_reads_them() {
        use Piece::{Block, Text, Value};
        for (source, expected) in [
            ("a", vec![Text("a")]),
            ("a {{ b }} c", vec![Text("a "), Value("b"), Text(" c")]),
            ("a {{- b -}} c", vec![Text("a"), Value("b"), Text("c")]),
            ("{{ '}}' }}x", vec![Text(""), Value("'}}'"), Text("x")]),
            ("{{ {'a': {}} }}x", vec![Text(""), Value("{'a': {}}"), Text("x")]),
            ("{{ \"\\\"}}\" }}x", vec![Text(""), Value("\"\\\"}}\""), Text("x")]),
            ("{# {{ a }} #}x", vec![Text(""), Text("x")]),
            ("{% raw %}{{ a }}{% endraw %}x", vec![Text(""), Text("{{ a }}"), Text("x")]),
            ("{%- raw -%} {% b {%+ endraw -%} x", vec![Text(""), Text("{% b "), Text("x")]),
            (
                "{% if a %}b{% endif %}",
                vec![Text(""), Block("if a"), Text("b"), Block("endif"), Text("")],
            ),
            ("{{ a", vec![Text(""), Value("a"), Text("")]),
        ] {
            assert_eq!(Source::of(source).0, expected, "{source}");
        }
        let filters =
            Source::of("{{ a | default('b|c') | upper }}{% set x = 1|abs %}| d").filters();
        assert_eq!(filters, ["default", "upper", "abs"]);
    }
}
