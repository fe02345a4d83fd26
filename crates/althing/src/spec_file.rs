//! Reading a spec file, and showing what is wrong with it at the place where it is wrong.

use althing_components::Spec;
use althing_components::spec::{MAX_SPEC_BYTES, Problem, Problems, Severity};
use miette::{Diagnostic, IntoDiagnostic, LabeledSpan, NamedSource, Result, SourceCode, WrapErr, miette};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A spec file's text, and what became of it.
pub(crate) struct SpecFile {
    source: Arc<NamedSource<String>>,
    pub(crate) parsed: Result<Spec, Problems>,
}

/// A problem as a program reads it.
#[derive(Serialize)]
pub(crate) struct ProblemReport {
    severity: &'static str,
    code: &'static str,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    help: String,
}

impl SpecFile {
    /// Reads and checks the file at `path`. No more of it is read than a spec file may have.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SPEC_BYTES as u64 + 1).read_to_end(&mut bytes))
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read the spec file {shown}"))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| miette!(help = "a spec file is YAML in UTF-8", "{shown} is not text"))?;
        let parsed = Spec::parse(&text);
        let source = Arc::new(NamedSource::new(shown, text).with_language("YAML"));
        Ok(Self { source, parsed })
    }

    /// What the file describes, or a report of every problem.
    pub(crate) fn spec(self) -> Result<Spec> {
        let shown = |problem: &Problem| Shown { problem: problem.clone(), source: Arc::clone(&self.source) };
        match &self.parsed {
            Ok(spec) => {
                for warning in spec.warnings() {
                    eprintln!("{:?}", miette::Report::new(shown(warning)));
                }
            }
            Err(problems) => {
                let name = self.source.name().to_owned();
                return Err(Broken { name, problems: problems.all().iter().map(shown).collect() }.into());
            }
        }
        self.parsed.map_err(|_| unreachable!("handled above"))
    }

    /// Every problem, warnings included.
    pub(crate) fn problems(&self) -> Vec<ProblemReport> {
        let problems = match &self.parsed {
            Ok(spec) => spec.warnings(),
            Err(problems) => problems.all(),
        };
        problems.iter().map(ProblemReport::of).collect()
    }
}

impl ProblemReport {
    fn of(problem: &Problem) -> Self {
        Self {
            severity: match problem.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            code: problem.code(),
            line: problem.span().map(|span| span.line),
            column: problem.span().map(|span| span.column),
            message: problem.rule().to_string(),
            help: problem.help(),
        }
    }
}

/// All that is wrong with a spec file.
#[derive(Debug)]
struct Broken {
    name: String,
    problems: Vec<Shown>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "{} has {count} problem{}", self.name, if count == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Broken {}

impl Diagnostic for Broken {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// One problem, with the text around it.
#[derive(Debug)]
struct Shown {
    problem: Problem,
    source: Arc<NamedSource<String>>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.rule().fmt(f)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code()))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity() {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.help()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span()?;
        let label = LabeledSpan::new(Some(self.problem.label()), span.offset, span.length);
        Some(Box::new(std::iter::once(label)))
    }
}
