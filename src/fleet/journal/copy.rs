//! The writer's part of a compaction: it copies everything that is not superseded and replaces the journal with the
//! copy.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use super::line;
use super::writer::{
    COPIED, COPYING, FAILED, MAX_UNREAD, NOT_BEGUN, Writer, WriterCommand, create,
};
use crate::os::fs::{Content, open_to_read};
use crate::os::process;

impl Writer {
    fn copy_path(&self) -> PathBuf {
        self.folder.join(super::COPY_FILE)
    }

    /// Creates the copy. From then on all lines are also written into the copy.
    pub(super) fn begin_copy(&mut self) {
        let mut first = String::new();
        line::write_header(&mut first);
        self.copies = self.copies.wrapping_add(1);
        self.is_copy_whole = false;
        let begun = create(&self.copy_path(), true).and_then(|mut file| {
            file.write_all(first.as_bytes())?;
            if self.is_unread
                && let Ok(before) = open_to_read(&self.path())
            {
                // The next start reads this old journal. The lines of this run follow it and therefore take precedence.
                io::copy(&mut Content::new(before).take(MAX_UNREAD), &mut file)?;
                file.write_all(b"\n")?;
            }
            Ok(file)
        });
        match begun {
            Ok(file) => {
                self.copy = Some(file);
                self.shared.copy.store(COPYING, Ordering::Release);
            }
            Err(error) => {
                self.log_error(&error, "it is not compacted");
                self.end_copy(NOT_BEGUN);
            }
        }
    }

    /// Writes current records into the copy only: the journal already contains them.
    pub(super) fn append_to_copy(&mut self, text: &str) {
        if let Some(copy) = &mut self.copy
            && let Err(error) = copy.write_all(text.as_bytes())
        {
            self.copy_failed(&error);
        }
    }

    /// Syncs the copy on a separate thread, because that may take seconds and pins must not wait for it. Meanwhile,
    /// lines are written into both files.
    pub(super) fn sync_copy(&mut self, back: mpsc::Sender<WriterCommand>) {
        let Some(copy) = &self.copy else { return };
        let number = self.copies;
        self.is_copy_whole = true;
        let started = copy.try_clone().and_then(|copy| {
            let run = move || {
                let synced = WriterCommand::CopySynced(number, copy.sync_all());
                // The journal may have been stopped in the meantime.
                back.send(synced).ok();
            };
            process::start_thread("journal-copy", Box::new(run))
        });
        if started.is_err() {
            // No further thread can be started.
            self.replace_journal(&mut |_| Ok(()));
        }
    }

    /// Replaces the journal with the copy. `step` is called before each step; an error from it stops the replacement.
    pub(super) fn replace_journal(&mut self, step: &mut dyn FnMut(&str) -> io::Result<()>) {
        let Some(copy) = self.copy.take() else { return };
        let done = (|| {
            step("sync the copy")?;
            // Sync before the rename: after a power cut the name must not refer to an empty file.
            copy.sync_all()?;
            step("rename it")?;
            std::fs::rename(self.copy_path(), self.path())?;
            Ok(copy.metadata()?.len())
        })();
        match done {
            Ok(size) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                self.shared.size.store(size, Ordering::Relaxed);
                self.file = Some(copy);
                self.is_torn = false;
                self.is_unread = false;
                self.shared.copy.store(COPIED, Ordering::Release);
                if step("sync the folder").is_ok()
                    && let Ok(folder) = File::open(&self.folder)
                {
                    // Not every file system supports fsync of a folder.
                    folder.sync_all().ok();
                }
            }
            Err(error) => self.copy_failed(&error),
        }
    }

    pub(super) fn copy_failed(&mut self, error: &io::Error) {
        self.log_error(error, "it is not compacted");
        self.end_copy(FAILED);
    }

    pub(super) fn end_copy(&mut self, state: u8) {
        if self.copy.take().is_some() || matches!(state, FAILED | NOT_BEGUN) {
            std::fs::remove_file(self.copy_path()).ok();
            self.shared.copy.store(state, Ordering::Release);
        }
    }
}
