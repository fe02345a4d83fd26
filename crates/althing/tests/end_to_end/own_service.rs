//! A service that a user wrote, run by the user's own program.

use super::deployment::Deployment;
use super::process::{expect, own_program, run, signal, until};
use rustix::process::Signal;
use std::process::Command;

#[test]
fn a_service_of_ones_own_is_replicated_like_any_other() {
    let program = own_program("till");
    let till = Deployment::serve(Command::new(&program), "till");
    let pay = |amount: &str, code: i32| {
        let output = Command::new(&program).args(["pay", amount]).arg(till.directory()).output();
        expect(&output.expect("the program can be started"), code)
    };
    assert_eq!(pay("5", 0).0, "5\n");
    assert_eq!(pay(&u64::MAX.to_string(), 1).1, "nobody is that rich\n");
    let (_, primary) = till.primary("till");
    signal(primary, Signal::KILL);
    assert_eq!(pay("7", 0).0, "12\n");
    until("the return of the replica", || (till.replicas("till").len() == 4).then_some(()));
    till.end();
}

#[test]
fn a_program_without_the_service_says_so() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let directory = home.path().join("run");
    let output = run(["serve".as_ref(), "till".as_ref(), "--dir".as_ref(), directory.as_os_str()]);
    assert!(expect(&output, 2).1.contains("there is no service `till`; there are: kv"));
}
