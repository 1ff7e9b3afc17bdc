//! Preparation of the firmware folder, and the first catalogue.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use smol::channel::Receiver;
use smol::{Timer, future};

use crate::firmware::catalog::Catalog;
use crate::os::process::{Signal, Signals};

/// Creates the firmware folder if it does not exist. Fails with a sentence if it can never be used.
pub(super) fn prepare(folder: &Path) -> Result<(), String> {
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!(
            "{} is a file, not the firmware folder; give another: luat-ota DIR",
            folder.display()
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder).map_err(|error| {
                format!(
                    "the firmware folder {} cannot be created: {error}; give another: luat-ota DIR",
                    folder.display()
                )
            })?;
            log::info!(
                target: "folder",
                path:% = folder.display();
                "created the firmware folder; firmware goes into PROJECT/VERSION/ in it"
            );
            Ok(())
        }
        // An error of a medium may be temporary; modules get 503 until then.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EIO | libc::ESTALE | libc::ENOTCONN | libc::ENODEV | libc::ENXIO)
            ) =>
        {
            log::warn!(
                target: "folder",
                "the firmware folder {} cannot be read: {error}; modules are told to try again later",
                folder.display()
            );
            Ok(())
        }
        Err(error) => Err(format!(
            "the firmware folder {} cannot be read: {error}; give another: luat-ota DIR",
            folder.display()
        )),
    }
}

/// Maximum time to wait for files whose hashes are unknown. Requests wait as well, in the queues of the kernel: a
/// resumed download would be refused while its file is unknown.
const READ_FIRST: Duration = Duration::from_secs(5);

/// Waits for the first catalogue, and for up to [`READ_FIRST`] for one with all files. Returns `None` if a signal to
/// stop comes before.
pub(super) async fn first_catalogue(
    catalogs: &Receiver<Arc<Catalog>>,
    signals: &Signals,
) -> Result<Option<Arc<Catalog>>, String> {
    let stopped = async {
        loop {
            match signals.next().await {
                Ok(Signal::Stop) => return Ok(None),
                Ok(Signal::Rescan) => {}
                Err(_) => return future::pending().await,
            }
        }
    };
    let arrived = async {
        let stopped_watching = |_| "the firmware folder is not watched any more".to_owned();
        let mut catalog = catalogs.recv().await.map_err(stopped_watching)?;
        let mut patience = Timer::after(READ_FIRST);
        while catalog.reading && !catalog.is_unread() {
            let next = async { Some(catalogs.recv().await) };
            let late = async {
                (&mut patience).await;
                None
            };
            match future::or(next, late).await {
                Some(next) => catalog = next.map_err(stopped_watching)?,
                None => break,
            }
        }
        Ok(Some(catalog))
    };
    future::or(arrived, stopped).await
}
