use althing_components::{Component, program};
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

/// Makes a process component of `component`: the program answers requests on its standard input until
/// that ends. To be called from `main`, and returned.
#[must_use]
pub fn run_component(mut component: impl Component) -> ExitCode {
    match answer_all(&mut component) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all(component: &mut dyn Component) -> Result<(), String> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).map_err(|error| error.to_string())? > 0 {
        let answer = program::answer(component, &line)?;
        output.write_all(&answer).and_then(|()| output.flush()).map_err(|error| error.to_string())?;
        line.clear();
    }
    Ok(())
}
