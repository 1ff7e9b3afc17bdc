//! Handling of signals, and the graceful stop of the server.

use std::time::Duration;

use smol::{Task, Timer, future};

use super::Settings;
use crate::device::{Service, Stop};
use crate::firmware::watch::Watcher;
use crate::logging;
use crate::os::process::{Signal, Signals};
use crate::os::systemd;

/// Time for replies that are still being sent when no download runs any more.
const LAST_REPLIES: Duration = Duration::from_secs(1);

/// Announces readiness, handles the signals, and lets running downloads finish. `listeners`: the tasks that accept
/// connections until the stop.
pub(super) async fn serve_until_stopped(
    settings: &Settings,
    signals: &Signals,
    watcher: &Watcher,
    service: &Service,
    stop: &Stop,
    listeners: Vec<Task<()>>,
) {
    systemd::notify("READY=1");
    log::info!(target: "ready", "ready");
    logging::flush();
    stop_signal(signals, watcher, service).await;

    systemd::notify("STOPPING=1");
    stop.raise();
    let last_replies = async {
        let timeout = async {
            Timer::after(LAST_REPLIES).await;
        };
        let closed = async {
            for listener in listeners {
                listener.await;
            }
            service.connections_done().await;
        };
        future::or(closed, timeout).await;
    };
    let downloads = service.running_downloads();
    if downloads == 0 {
        return last_replies.await;
    }
    log::info!(
        target: "stop",
        downloads = downloads, grace = settings.grace.as_secs();
        "running downloads may finish; a second signal ends them at once"
    );
    let finished = async {
        service.downloads_done().await;
        last_replies.await;
        "all downloads have finished"
    };
    let grace_over = async {
        Timer::after(settings.grace).await;
        "the time for running downloads is over"
    };
    let second_signal = async {
        stop_signal(signals, watcher, service).await;
        "a second signal"
    };
    let why = future::or(finished, future::or(second_signal, grace_over)).await;
    log::info!(target: "stop", downloads = service.running_downloads(); "{why}");
}

/// Waits for a signal to stop. SIGHUP rescans the folders.
async fn stop_signal(signals: &Signals, watcher: &Watcher, service: &Service) {
    loop {
        match signals.next().await {
            Ok(Signal::Stop) => return,
            Ok(Signal::Rescan) => {
                log::info!(target: "folder", "scanning the folder: SIGHUP");
                watcher.rescan();
                service.fleet.borrow_mut().state_folder_changed();
            }
            Err(error) => {
                // The server continues without signals.
                log::error!(target: "stop", "signals cannot be read any more: {error}");
                return future::pending().await;
            }
        }
    }
}
