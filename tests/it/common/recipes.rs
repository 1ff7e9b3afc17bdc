//! Shell recipes of the documents, run unchanged except for the addresses and paths.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::documents::{self, Mark};
use super::mount::skipped;
use super::{clean, wait_for_exit};

/// The blocks of a document that are marked as run by this file, in order.
pub fn recipes(document: &str, file: &str) -> Vec<String> {
    let text = documents::read(document);
    let blocks = documents::code_blocks(&text).0.into_iter();
    let is_ours = |mark: &Option<Mark>| *mark == Some(Mark::RunBy(file.to_owned()));
    blocks
        .filter(|block| is_ours(&block.mark))
        .map(|block| block.text)
        .collect()
}

/// Whether this machine has these programs. With CI=true a missing program is a failure.
pub fn can_run(programs: &[&str]) -> bool {
    let is_missing = |program: &&&str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .stdout(Stdio::null())
            .status();
        !found.is_ok_and(|status| status.success())
    };
    let Some(missing) = programs.iter().find(is_missing) else {
        return true;
    };
    let text = format!("{missing} is not installed");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
    skipped(&text);
    false
}

/// Sets a flag when dropped, also when the test fails, so that threads that run beside a test stop.
pub struct StopOnDrop<'o>(pub &'o AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A running shell script with all processes that it started; killed when this value is dropped.
pub struct Script(Child);

impl Script {
    pub fn start(text: &str, variables: &[(&str, &str)]) -> Script {
        let mut command = Command::new("sh");
        clean(&mut command);
        command.args(["-c", text]).process_group(0);
        command
            .env_remove("AWS_CA_BUNDLE")
            .envs(variables.iter().copied());
        Script(command.spawn().unwrap())
    }

    /// Runs a script until it exits.
    pub fn run(text: &str, variables: &[(&str, &str)]) -> ExitStatus {
        Script::start(text, variables).finish()
    }

    pub fn finish(mut self) -> ExitStatus {
        let status = wait_for_exit(&mut self.0, Duration::from_secs(120));
        status.expect("the script does not end")
    }

    pub fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Sends a signal to all processes of the script: the shell and those that it started.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let group = rustix::process::Pid::from_raw(self.0.id() as i32).unwrap();
        // The processes may have exited.
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(rustix::process::Signal::KILL);
            let _ = self.0.wait();
        }
    }
}
