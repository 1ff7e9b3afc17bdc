//! The program of `--on-event`: one run for each notice, one at a time, on a separate thread that sleeps in between.
//! The program gets the JSON of the notice on its standard input. It delays nothing else: the thread that raises a
//! notice only puts the notice into a bounded queue.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::fleet::events::Events;
use crate::fleet::notices::{ProgramCounts, ProgramQueue};
use crate::os::process::start_thread;

/// Maximum duration of a run.
const DEADLINE: Duration = Duration::from_secs(30);

/// Minimum time between two log lines on failures.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Time for the waiting notices when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time between two checks of a running program.
const MAX_POLL: Duration = Duration::from_millis(200);

/// Environment variables of the server that the program does not get: a secret, and those of the server's process.
const REMOVED_VARIABLES: [&str; 5] = [
    "LUAT_OTA_OPERATOR_TOKEN",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

/// The thread that runs the program.
pub(super) struct EventProgram {
    /// Channel that is disconnected when the thread has ended.
    ended: Receiver<Infallible>,
}

impl EventProgram {
    /// Starts the thread, which gets all further notices. Returns `None`, with a warning in the log, if that fails.
    pub fn start(command: &str, events: &mut Events) -> Option<EventProgram> {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let program = words.first()?;
        if !exists(program) {
            log::warn!(target: "on-event", "{program} does not exist: no event can be passed to it");
        }
        let (queue, notices) = ProgramQueue::new();
        let counts = Arc::clone(&queue.counts);
        let (sender, ended) = sync_channel(1);
        let run = move || {
            run_each(&words, &notices, &counts);
            drop(sender);
        };
        if let Err(error) = start_thread("on-event", Box::new(run)) {
            log::warn!(target: "on-event", "no thread can be started, so no event is passed on: {error}");
            return None;
        }
        events.set_program(Some(queue));
        Some(EventProgram { ended })
    }

    /// Waits until the program has got the notices in the queue, for at most [`STOP_TIMEOUT`].
    pub fn stop(self, events: &mut Events) {
        events.set_program(None);
        if self.ended.recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log::warn!(target: "on-event", "the server stops; events that wait for the program are lost");
        }
    }
}

/// Whether the program is a file, at its path or in one of the folders of PATH.
fn exists(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Runs the program for each notice until the queue is closed and empty, and logs failures.
fn run_each(words: &[String], notices: &Receiver<String>, counts: &ProgramCounts) {
    let (mut failed, mut dropped_before) = (0u32, 0u32);
    let mut last_logged: Option<Instant> = None;
    for json in notices {
        let result = run(words, &json, DEADLINE);
        if result.is_err() {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            failed = failed.saturating_add(1);
        }
        let dropped = counts.dropped.load(Ordering::Relaxed);
        let is_good = failed == 0 && dropped == dropped_before;
        if is_good || last_logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            continue;
        }
        let why = result.err();
        log::warn!(
            target: "on-event",
            failed = failed, dropped = dropped.wrapping_sub(dropped_before);
            "{}", why.as_deref().unwrap_or("the program takes events more slowly than they come, or has failed")
        );
        (failed, dropped_before, last_logged) = (0, dropped, Some(Instant::now()));
    }
}

/// Runs the program once. The error is a sentence.
fn run(words: &[String], json: &str, deadline: Duration) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("there is no program")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Processes that the program starts are killed with it.
        .process_group(0);
    for name in REMOVED_VARIABLES {
        command.env_remove(name);
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A pipe has room for more than a notice, so this does not block. The program need not read the notice.
        let _unread = writeln!(stdin, "{json}");
    }
    match wait(&mut child, deadline) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("{program} failed: {status}")),
        Ok(None) => Err(format!(
            "{program} did not end within {} s and was killed",
            deadline.as_secs()
        )),
        Err(error) => Err(format!("cannot wait for {program}: {error}")),
    }
}

/// Waits for the end of a program. Returns `None` if it took longer than `deadline` and was killed, with all processes
/// that it started.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            // The program leads its own group, and has not been waited for, so its id was not reused.
            kill_process_group(Pid::from_child(child), Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = pause.saturating_mul(2).min(MAX_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    /// Writes a script and returns the command that runs it. The shell reads the script: a file that was just written
    /// cannot be executed (ETXTBSY) while a child that another test has forked still has it open for writing.
    fn script(folder: &Scratch, text: &str) -> Vec<String> {
        let path = folder.write("script.sh", format!("{text}\n").as_bytes());
        let (path, folder) = (path.to_str().unwrap(), folder.path().to_str().unwrap());
        ["/bin/sh", path, folder, "*"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_program_gets_its_arguments_as_they_are_and_the_json_as_a_line() {
        let folder = Scratch::new();
        let words = script(
            &folder,
            "printf '%s|' \"$2\" > \"$1/out\"; cat >> \"$1/out\"",
        );
        run(&words, "{\"a\":1}", DEADLINE).unwrap();
        let text = std::fs::read_to_string(folder.path().join("out")).unwrap();
        assert_eq!(text, "*|{\"a\":1}\n");
    }

    #[test]
    fn a_failed_or_missing_program_is_an_error() {
        let folder = Scratch::new();
        let failed = run(&script(&folder, "exit 7"), "{}", DEADLINE).unwrap_err();
        assert!(failed.ends_with("failed: exit status: 7"), "{failed}");
        let missing = [folder.path().join("nothing").display().to_string()];
        let failed = run(&missing, "{}", DEADLINE).unwrap_err();
        assert!(failed.contains("cannot be started"), "{failed}");
        assert!(!exists(&missing[0]) && exists("/bin/sh") && exists("sh"));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let folder = Scratch::new();
        let words = script(&folder, "sleep 600 & echo $! > \"$1/pid\"; wait");
        let started = Instant::now();
        let failed = run(&words, "{}", Duration::from_secs(2)).unwrap_err();
        assert!(
            failed.ends_with("did not end within 2 s and was killed"),
            "{failed}"
        );
        assert!(started.elapsed() < Duration::from_secs(60));
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // The process may be a zombie until init has waited for it.
        let is_over = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        while !is_over() {
            assert!(started.elapsed() < Duration::from_secs(60), "it still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn waiting_notices_are_passed_on_at_the_stop() {
        let folder = Scratch::new();
        let words = script(&folder, "cat >> \"$1/out\"");
        let mut events = Events::default();
        let program = EventProgram::start(&words.join(" "), &mut events).unwrap();
        for version in ["1", "2", "3"] {
            let notice = crate::fleet::notices::Notice::new(
                crate::fleet::notices::NoticeKind::ReleaseFound,
                "P",
                version,
                "",
            );
            events.notify(notice, 0);
        }
        program.stop(&mut events);
        let text = std::fs::read_to_string(folder.path().join("out")).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("\"version\":\"3\""), "{text}");
    }
}
