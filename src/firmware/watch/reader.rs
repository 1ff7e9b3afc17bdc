//! The thread that reads files, one after the other, so that the watching one is never kept waiting by
//! a slow disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Message;
use super::queue::Queue;
use crate::firmware::scan::reading::{self, Job, Outcome};
use crate::os::fs::Folder;

/// It leaves the processor to whoever else wants it.
const NICE: i32 = 10;

/// What the thread needs.
pub(super) struct Reader {
    pub(super) root: PathBuf,
    pub(super) todo: Arc<Queue<Vec<Job>>>,
    pub(super) done: Arc<Queue<Message>>,
    pub(super) reads: Arc<AtomicUsize>,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn run(self) {
        // On Linux this is the thread's own; where it is refused, so be it.
        rustix::process::setpriority_process(None, NICE).ok();
        let go_on = || !self.stopping.load(Ordering::Relaxed);
        loop {
            let batches = self.todo.take(Duration::MAX);
            if batches.is_empty() {
                return;
            }
            let root = Folder::open(&self.root);
            for job in batches.into_iter().flatten() {
                let outcome = match &root {
                    Ok(root) if go_on() => reading::read(root, &job, &go_on),
                    Ok(_) => Outcome::Later,
                    Err(_) => Outcome::Gone,
                };
                if let Outcome::Read { .. } = outcome {
                    self.reads.fetch_add(1, Ordering::Relaxed);
                }
                self.done.send(Message::Read(job, outcome));
            }
        }
    }
}
