use super::rule::Rule;
use std::fmt;

/// A broken rule, or something that is probably not meant, and where it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    rule: Rule,
    span: Option<Span>,
}

/// A place in the spec file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Offset of its first byte.
    pub offset: usize,
    /// Bytes; zero where only a point is known.
    pub length: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The application can't run.
    Error,
    /// It can, but probably does not do what is meant.
    Warning,
}

impl Problem {
    pub(super) fn new(rule: Rule, span: Option<Span>) -> Self {
        Self { rule, span }
    }

    /// The rule, with the values that break it. Its `Display` is the message.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Where it is broken; `None` where the whole file is meant.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.rule.severity()
    }

    /// A stable name of the rule, such as `spec::unknown_port`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.rule.code()
    }

    /// A few words to put at the place.
    #[must_use]
    pub fn label(&self) -> String {
        self.rule.label()
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        self.rule.help()
    }
}

impl fmt::Display for Problem {
    /// `3:7: error: message`, and the remedy on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = self.span {
            write!(f, "{}:{}: ", span.line, span.column)?;
        }
        let severity = match self.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}\n  help: {}", self.rule, self.help())
    }
}

/// Everything that is wrong with a spec file: one error at least.
#[derive(Debug, Clone, PartialEq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// The problems, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Span {
    /// The place of a node of the YAML document. Some of the parser's places lack byte offsets;
    /// they follow from line and column then.
    pub(super) fn of(location: serde_saphyr::Location, text: &str) -> Option<Self> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (line, column) = (number(location.line()), number(location.column()));
        if line == 0 {
            return None;
        }
        let bytes = location.span();
        let (offset, length) = match (bytes.byte_offset(), bytes.byte_len()) {
            (Some(offset), Some(length)) => (number(offset), number(length)),
            _ => (offset_of(text, line, column), 0),
        };
        let offset = offset.min(text.len());
        Some(Self { offset, length: length.min(text.len() - offset), line, column })
    }

    /// This place narrowed to the part of its text from `start` on, `length` bytes long.
    pub(super) fn part(self, text: &str, start: usize, length: usize) -> Self {
        let whole = text.get(self.offset..self.offset + self.length);
        let before = whole.and_then(|whole| whole.get(..start));
        match before {
            // Quoted and folded text has other bytes in the file than in the value.
            Some(before) if start + length <= self.length && !whole.is_some_and(is_quoted) => Self {
                offset: self.offset + start,
                length,
                line: self.line,
                column: self.column + before.chars().count(),
            },
            _ => self,
        }
    }
}

fn is_quoted(text: &str) -> bool {
    text.starts_with(['"', '\'', '|', '>'])
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.clone().take(line - 1).map(str::len).sum();
    let line = lines.nth(line - 1).unwrap_or("");
    let mut characters = line.char_indices().map(|(at, _)| at);
    before + characters.nth(column.saturating_sub(1)).unwrap_or(line.len())
}
