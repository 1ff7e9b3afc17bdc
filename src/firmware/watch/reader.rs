//! Thread that reads firmware files one after the other, so that a slow disk never delays the
//! watching thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use super::WatchMessage;
use crate::firmware::scan::reading::{self, Job, ReadOutcome};
use crate::os::fs::Folder;

/// Niceness of the thread. Serving has priority.
const NICE: i32 = 10;

/// State of the reading thread.
pub(super) struct Reader {
    pub(super) root: PathBuf,
    pub(super) jobs: Receiver<Vec<Job>>,
    pub(super) done: Sender<WatchMessage>,
    pub(super) reads: Arc<AtomicUsize>,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Reader {
    /// Reads until the watching thread ends.
    pub(super) fn run(self) {
        // On Linux each thread has its own niceness. If the call fails, only the priority differs.
        rustix::process::setpriority_process(None, NICE).ok();
        let keep_reading = || !self.stopping.load(Ordering::Relaxed);
        for batch in &self.jobs {
            let root = Folder::open(&self.root);
            for job in batch {
                let outcome = match &root {
                    Ok(root) if keep_reading() => reading::read(root, &job, &keep_reading),
                    Ok(_) => ReadOutcome::Later,
                    Err(_) => ReadOutcome::Gone,
                };
                if let ReadOutcome::Read { .. } = outcome {
                    self.reads.fetch_add(1, Ordering::Relaxed);
                }
                // Fails only if the watching thread has ended.
                self.done.send(WatchMessage::Read(job, outcome)).ok();
            }
        }
    }
}
