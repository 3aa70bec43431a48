//! A command line, to be run or to be shown.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// A program with its arguments; its text can be pasted into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    program: &'static str,
    arguments: Vec<OsString>,
}

impl CommandLine {
    pub(crate) fn new(program: &'static str) -> CommandLine {
        CommandLine {
            program,
            arguments: Vec::new(),
        }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> CommandLine {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> CommandLine {
        let arguments = arguments.into_iter();
        self.arguments
            .extend(arguments.map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.program)?;
        for argument in &self.arguments {
            write!(out, " {}", quoted(&argument.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// As a POSIX shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_pasted() {
        let command = CommandLine::new("helm").args(["--set", "a.b=c,d", "it's", "", "a b", "$x"]);
        assert_eq!(command.to_string(), r"helm --set a.b=c,d 'it'\''s' '' 'a b' '$x'");
    }
}
