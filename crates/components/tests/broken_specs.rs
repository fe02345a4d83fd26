//! Broken spec files and what is said about them. Cases and expected messages stand together in
//! `broken_specs.txt`; after a wanted change, run with `BLESS=1` and read the difference.

use althing_components::Spec;
use althing_components::spec::{MAX_SPEC_BYTES, Severity};
use std::collections::BTreeSet;
use std::fmt::Write;

const CASES: &str = include_str!("broken_specs.txt");

/// The cases: name, spec file, expected messages.
fn cases() -> Vec<(&'static str, &'static str, &'static str)> {
    let cases = CASES.split("=== ").skip(1);
    let split = |case: &'static str| {
        let (name, rest) = case.split_once('\n').expect("a case has a name");
        let (spec, expected) = rest.split_once(">>>\n").expect("a case has messages");
        (name, spec, expected)
    };
    cases.map(split).collect()
}

fn messages(spec: &str) -> String {
    let problems = match Spec::parse(spec) {
        Ok(spec) => spec.warnings().to_vec(),
        Err(problems) => problems.all().to_vec(),
    };
    let mut text = String::new();
    for problem in problems {
        let marked = problem.span().map_or("", |span| {
            let rest = &spec[span.offset..span.offset + span.length];
            rest.lines().next().unwrap_or("")
        });
        let (code, label) = (problem.code(), problem.label());
        writeln!(text, "{problem}\n  [{code}] at «{marked}»: {label}").unwrap();
    }
    text
}

#[test]
fn every_broken_rule_is_named_with_its_place_and_remedy() {
    let mut actual = CASES.split("=== ").next().unwrap().to_owned();
    for (name, spec, _) in cases() {
        let messages = messages(spec);
        write!(actual, "=== {name}\n{spec}>>>\n{messages}\n").unwrap();
    }
    if std::env::var_os("BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broken_specs.txt");
        std::fs::write(path, &actual).unwrap();
        return;
    }
    for (actual, expected) in actual.split("=== ").zip(CASES.split("=== ")) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual, CASES);
}

#[test]
fn places_lie_in_the_file_and_agree_with_lines_and_columns() {
    for (name, spec, _) in cases() {
        let Err(problems) = Spec::parse(spec) else {
            continue;
        };
        let errors = problems.all().iter().filter(|p| p.severity() == Severity::Error);
        assert!(errors.count() > 0, "{name}");
        for span in problems.all().iter().filter_map(|p| p.span()) {
            let before = &spec[..span.offset];
            assert_eq!(before.matches('\n').count() + 1, span.line, "{name}");
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            assert_eq!(column, span.column, "{name}");
        }
    }
}

#[test]
fn the_cases_cover_the_rules() {
    let codes: BTreeSet<_> = cases()
        .into_iter()
        .flat_map(|(_, spec, _)| match Spec::parse(spec) {
            Ok(spec) => spec.warnings().to_vec(),
            Err(problems) => problems.all().to_vec(),
        })
        .map(|problem| problem.code())
        .collect();
    assert!(codes.len() >= 40, "{} rules are covered: {codes:?}", codes.len());
}

#[test]
fn sizes_are_bounded() {
    let code = |spec: &str| Spec::parse(spec).unwrap_err().all()[0].code();
    assert_eq!(code(&" ".repeat(MAX_SPEC_BYTES + 1)), "spec::too_large");

    let many = |count: usize, line: &dyn Fn(usize) -> String| -> String { (0..count).map(line).collect() };
    let components = many(257, &|i| format!("  c{i}: {{builtin: average}}\n"));
    assert_eq!(code(&format!("name: a\ncomponents:\n{components}")), "spec::too_many_components");

    let ports = many(65, &|i| format!("      p{i}: json\n"));
    let process = format!("name: a\ncomponents:\n  c:\n    process: [p]\n    in:\n{ports}");
    assert_eq!(code(&process), "spec::too_many_ports");

    let wires = many(1025, &|i| format!("  - {{from: 'mqtt:t{i}', to: c.value}}\n"));
    let component = "name: a\ncomponents:\n  c: {builtin: average}\n";
    assert_eq!(code(&format!("{component}wires:\n{wires}")), "spec::too_many_wires");
}

#[test]
fn hostile_documents_are_refused_and_cost_little() {
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nname: *c\n";
    let deep = "[".repeat(100_000);
    let deep_settings = format!(
        "name: a\ncomponents: {{t: {{builtin: thermostat, config: {{target: {}}}}}}}",
        "[".repeat(100_000)
    );
    for hostile in [laughs, &deep, &deep_settings, "\0", "\u{feff}", "!!binary x", "--- --- ---"] {
        assert!(Spec::parse(hostile).is_err());
    }
}
