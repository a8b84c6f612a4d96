//! A configuration file as every command reads it: with the environment, and with what an `environment_file` has.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::compile::load;
use super::problem::Problems;
use super::snapshot::Config;
use super::source::Source;

/// Why a file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It, or its `environment_file`, can't be read.
    #[error("{file}: {cause}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A line of its `environment_file` is none.
    #[error("{file}:{line}: expected `NAME=value`")]
    Line {
        /// Which.
        file: String,
        /// Of the line, from 1 on.
        line: usize,
    },
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Reads and compiles the configuration in `file`. For `${NAME}` its `environment_file` counts before the environment of
/// the process, which is as old as the process.
///
/// # Errors
/// What can't be read, and everything that is wrong with it.
pub fn load_file(file: &Path) -> Result<Config, LoadError> {
    let name = file.display().to_string();
    let text = read(file)?;
    let own = match environment_file(&name, &text) {
        Some(path) => variables(&file.parent().unwrap_or(Path::new("")).join(path))?,
        None => HashMap::new(),
    };
    let env = |name: &str| own.get(name).cloned().or_else(|| std::env::var(name).ok());
    Ok(load(&name, &text, env)?)
}

fn read(file: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(file)
        .map_err(|cause| LoadError::Unreadable { file: file.display().to_string(), cause })
}

/// What the file names, before anything else of it is looked at.
fn environment_file(name: &str, text: &str) -> Option<PathBuf> {
    let (source, _) = Source::parse(name, text, |_| None).ok()?;
    Some(source.value.get("environment_file")?.as_str()?.into())
}

/// The variables in a file as systemd reads it (`EnvironmentFile=`): `NAME=value` lines, comments, quotes.
fn variables(file: &Path) -> Result<HashMap<String, String>, LoadError> {
    let text = read(file)?;
    let mut out = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let pair = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = pair.filter(|(name, _)| is_name(name)) else {
            return Err(LoadError::Line { file: file.display().to_string(), line: number + 1 });
        };
        out.insert(name.to_owned(), unquoted(value));
    }
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// In single quotes everything stands for itself; elsewhere a backslash makes what follows do so.
fn unquoted(value: &str) -> String {
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(plain) = within('\'').filter(|_| value.len() > 1) {
        return plain.to_owned();
    }
    let text = within('"').filter(|_| value.len() > 1).unwrap_or(value);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        out.push(if char == '\\' { chars.next().unwrap_or('\\') } else { char });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_as_systemd_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("environment");
        let text = "# a comment\n; another\n\nA=1\n B = two words \nC='a\\b\"'\nD=\"a\\\"b\"\nE=\nF=a=b#c\n";
        std::fs::write(&file, text).unwrap();
        let read = variables(&file).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "a\\b\""),
            ("D", "a\"b"),
            ("E", ""),
            ("F", "a=b#c"),
        ];
        for (name, value) in expected {
            assert_eq!(read.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(read.len(), expected.len());
        std::fs::write(&file, "A=1\nexport B=2\n").unwrap();
        assert!(
            variables(&file)
                .unwrap_err()
                .to_string()
                .ends_with("environment:2: expected `NAME=value`")
        );
    }
}
