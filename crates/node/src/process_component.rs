//! Components that are programs: each runs as a child process and is asked line by line.
//!
//! A program that dies or does not answer in time is killed, started again and brought back to where
//! it was: its last state is restored, and the events since are given to it again, with what all
//! replicas had agreed on about them. Since a component is deterministic, nobody sees a difference.
//! If that fails too, the component is broken, and the replica stops rather than go on with a state
//! that the others do not share.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use althing_components::process::{Exchange, MAX_LINE_BYTES, ProcessComponent};
use althing_components::{Component, ComponentContext, ComponentError, OutputEvent};
use serde_json::Value;

use crate::config::ProcessConfig;

/// Events that are kept for a restart, at most; then the state is taken anew.
const MAX_JOURNAL_EVENTS: usize = 1024;

/// The longest line of a program's messages that is passed on to the log.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// How much longer than for an event a program may take for its first answer: it has to start.
const START_FACTOR: u32 = 10;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run `{program}` in {directory}: {source}; is it installed, and executable?")]
pub struct StartProgramError {
    /// The program.
    pub program: String,
    /// Where it should run.
    pub directory: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// A component that is a program, restarted when it fails.
#[derive(Debug)]
pub(crate) struct ChildComponent {
    config: ProcessConfig,
    launcher: Option<PathBuf>,
    program: ProcessComponent<ChildProgram>,
    /// The last state taken; `None` for the one that a fresh program has.
    state: Option<Vec<u8>>,
    /// The events since.
    journal: Vec<JournalEntry>,
}

#[derive(Debug, Clone)]
struct JournalEntry {
    port: String,
    value: Value,
    context: ComponentContext,
}

impl ChildComponent {
    /// Starts the program.
    pub(crate) fn start(config: &ProcessConfig, launcher: Option<&Path>) -> Result<Self, StartProgramError> {
        Ok(Self {
            program: ProcessComponent::new(ChildProgram::spawn(config, launcher)?),
            config: config.clone(),
            launcher: launcher.map(Path::to_owned),
            state: None,
            journal: Vec::new(),
        })
    }

    /// Asks the program, and if it fails, once more after it has been brought back.
    fn ask<T>(
        &mut self,
        question: impl Fn(&mut ProcessComponent<ChildProgram>) -> Result<T, ComponentError>,
    ) -> Result<T, ComponentError> {
        match question(&mut self.program) {
            Err(ComponentError::Broken(reason)) => {
                tracing::warn!(program = self.config.program, reason, "the program failed and is restarted");
                self.bring_back()?;
                question(&mut self.program)
            }
            answer => answer,
        }
    }

    fn bring_back(&mut self) -> Result<(), ComponentError> {
        let child = ChildProgram::spawn(&self.config, self.launcher.as_deref());
        let child = child.map_err(|e| ComponentError::Broken(e.to_string()))?;
        // The old one is killed as it is dropped.
        self.program = ProcessComponent::new(child);
        if let Some(state) = &self.state {
            self.program.restore(state).map_err(|e| {
                ComponentError::Broken(format!("after a restart it does not take its own state: {e}"))
            })?;
        }
        for JournalEntry { port, value, context } in &self.journal {
            match self.program.on_event(port, value, context) {
                // What it emitted then, it emitted before.
                Ok(_) | Err(ComponentError::Refused(_)) => {}
                Err(ComponentError::Broken(reason)) => {
                    let reason =
                        format!("after a restart it fails at an event that it took before: {reason}");
                    return Err(ComponentError::Broken(reason));
                }
            }
        }
        Ok(())
    }
}

impl Component for ChildComponent {
    fn on_event(
        &mut self,
        port: &str,
        value: &Value,
        context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        if self.journal.len() >= MAX_JOURNAL_EVENTS {
            self.snapshot()?;
        }
        let outputs = self.ask(|program| program.on_event(port, value, context));
        if !matches!(outputs, Err(ComponentError::Broken(_))) {
            let (port, value, context) = (port.to_owned(), value.clone(), *context);
            self.journal.push(JournalEntry { port, value, context });
        }
        outputs
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        let state = self.ask(Component::snapshot)?;
        self.state = Some(state.clone());
        self.journal.clear();
        Ok(state)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        self.ask(|program| program.restore(state))?;
        self.state = Some(state.to_owned());
        self.journal.clear();
        Ok(())
    }
}

/// A running program. Killed when dropped.
#[derive(Debug)]
struct ChildProgram {
    child: Child,
    lines: SyncSender<Vec<u8>>,
    answers: Receiver<Result<Vec<u8>, String>>,
    deadline: Duration,
    has_answered: bool,
}

impl ChildProgram {
    fn spawn(config: &ProcessConfig, launcher: Option<&Path>) -> Result<Self, StartProgramError> {
        let failed = |source| StartProgramError {
            program: config.program.clone(),
            directory: config.working_directory.clone(),
            source,
        };
        let mut command = match launcher {
            Some(launcher) => {
                let mut command = Command::new(launcher);
                command.args([LAUNCH_COMMAND, &std::process::id().to_string(), "--"]).arg(&config.program);
                command
            }
            None => Command::new(&config.program),
        };
        let mut child = command
            .args(&config.arguments)
            .current_dir(&config.working_directory)
            // The interrupt key of a terminal is for the supervisor, which ends everything in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            unreachable!("all three are piped");
        };
        // One line is under way at a time, and a program that writes more than it is asked for has
        // to wait.
        let (lines, to_write) = sync_channel(1);
        let (answering, answers) = sync_channel(1);
        let name = config.program.clone();
        let started = start_thread("component input", move || write_lines(stdin, &to_write))
            .and_then(|()| start_thread("component output", move || read_lines(stdout, &answering)))
            .and_then(|()| start_thread("component messages", move || forward_messages(stderr, &name)));
        let program = Self { child, lines, answers, deadline: config.deadline, has_answered: false };
        started.map_err(failed)?;
        Ok(program)
    }

    fn ended(&mut self) -> String {
        match self.child.try_wait() {
            Ok(Some(status)) => format!("it ended with {status}"),
            _ => "it closed its output".to_owned(),
        }
    }
}

impl Exchange for ChildProgram {
    fn exchange(&mut self, line: &[u8]) -> Result<Vec<u8>, String> {
        // A line that nobody asked for would be taken for the answer to the next request.
        if self.has_answered && self.answers.try_recv().is_ok() {
            return Err("it wrote a line that nobody asked for".to_owned());
        }
        // Never wait here: the replica does nothing else meanwhile.
        match self.lines.try_send(line.to_owned()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err("it does not read its input".to_owned()),
            Err(TrySendError::Disconnected(_)) => return Err(self.ended()),
        }
        let within = if self.has_answered { self.deadline } else { self.deadline * START_FACTOR };
        match self.answers.recv_timeout(within) {
            Ok(Ok(answer)) => {
                self.has_answered = true;
                Ok(answer)
            }
            Ok(Err(reason)) => Err(reason),
            Err(RecvTimeoutError::Timeout) => Err(format!("it has not answered within {within:?}")),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }
}

impl Drop for ChildProgram {
    fn drop(&mut self) {
        // It fails only where the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<Vec<u8>>) {
    for line in lines {
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, answers: &SyncSender<Result<Vec<u8>, String>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let answer = match (&mut stdout).take(limit).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.last() == Some(&b'\n') => Ok(line),
            Ok(n) if n as u64 == limit => {
                Err(format!("it wrote more than {MAX_LINE_BYTES} bytes on one line"))
            }
            Ok(_) => return,
            Err(error) => Err(format!("its output can not be read: {error}")),
        };
        let is_last = answer.is_err();
        if answers.send(answer).is_err() || is_last {
            return;
        }
    }
}

fn forward_messages(stderr: ChildStderr, program: &str) {
    let mut stderr = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(MAX_MESSAGE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                tracing::info!(program, message = %String::from_utf8_lossy(&line).trim_end(), "component")
            }
        }
    }
}

/// The hidden command of a binary that runs components through itself; see [`launch`].
pub const LAUNCH_COMMAND: &str = "launch";

/// Becomes the program `argv`, which is killed when the process `parent`, which started this one, ends: a
/// program can't be relied upon to notice. Returns only when that fails.
#[must_use]
pub fn launch(parent: u32, argv: &[String]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program to launch");
    };
    match crate::die_with_parent(parent) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
#[path = "process_component_tests.rs"]
mod tests;
