//! The spec file: whatever it holds, each problem has its place and a remedy, and what passes can be
//! planned, described and drawn.
#![no_main]

use althing_components::{Plan, SitePlan, Spec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Spec::parse(text) {
        Ok(Spec::Sites(system)) => {
            let plan = SitePlan::of(&system);
            assert_eq!(plan.sites().len(), system.quorums().n());
            assert!(!plan.text().is_empty());
        }
        Ok(Spec::Application(application)) => {
            let plan = Plan::of(&application);
            for (index, _) in plan.groups().iter().enumerate() {
                drop(plan.service_table(u16::try_from(index).expect("few groups")));
            }
            assert!(!plan.text().is_empty());
            assert!(plan.svg().starts_with("<svg"));
        }
        Err(problems) => {
            assert!(!problems.all().is_empty(), "refused without a reason");
            for problem in problems.all() {
                assert!(!problem.label().is_empty() && !problem.code().is_empty());
                if let Some(span) = problem.span() {
                    let end = span.offset + span.length;
                    assert!(text.is_char_boundary(span.offset) && text.is_char_boundary(end), "{problem:?}");
                }
            }
        }
    }
});
