//! Tasks that run as long as the server.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::channel::Receiver;
use smol::{LocalExecutor, Task, Timer, future};

use super::announce;
use super::rules_edits::RulesEdits;
use super::sockets::Sockets;
use super::state_watch::StateWatch;
use crate::device::{self, Service, Stop};
use crate::firmware::catalog::Catalog;
use crate::fleet::clock;
use crate::fleet::events::Event;
use crate::os::notify::Notify;
use crate::os::process::unblock;
use crate::state::ServerState;

/// Time between two sweeps of unused snapshots, while there may be some.
const SWEEP: Duration = Duration::from_secs(1800);

/// Time between two attempts to use a state folder that cannot be used.
const STATE_RETRY: Duration = Duration::from_secs(5);

/// Spawns one task for each public socket. Returns those that accept connections; they end at the stop.
pub(super) fn spawn_listeners(
    executor: &Rc<LocalExecutor<'static>>,
    service: &Rc<Service>,
    sockets: Sockets,
    stop: &Stop,
) -> Vec<Task<()>> {
    let mut listeners = Vec::new();
    let shared = || (Rc::clone(service), Rc::clone(executor), stop.clone());
    for listener in sockets.http {
        let (service, spawner, stop) = shared();
        let task = device::http::serve(listener, service, spawner, stop);
        listeners.push(executor.spawn(task));
    }
    for listener in sockets.tcp {
        let (service, spawner, stop) = shared();
        let task = device::tcp::serve(listener, service, spawner, stop);
        listeners.push(executor.spawn(task));
    }
    for socket in sockets.udp {
        let task = device::udp::serve(socket, Rc::clone(service), stop.clone());
        executor.spawn(task).detach();
    }
    listeners
}

/// Serves from each new catalogue.
pub(super) async fn follow_catalogues(
    catalogs: Receiver<Arc<Catalog>>,
    first: Arc<Catalog>,
    service: Rc<Service>,
) {
    let mut current = first;
    while let Ok(catalog) = catalogs.recv().await {
        let is_folder_known = service.fleet.borrow().is_folder_known();
        service.replace_catalog(Arc::clone(&catalog));
        announce::log_changes(&current, &catalog);
        for notice in announce::notices(&current, &catalog) {
            match is_folder_known {
                true => service.fleet.borrow_mut().notify(notice),
                // What already existed at the start is logged, but is no event.
                false => notice.log(),
            }
        }
        current = catalog;
        let changed = || Event::Catalog {
            unix: clock::unix_now(),
        };
        service.fleet.borrow_mut().events.publish(changed);
    }
    log::error!(target: "folder", "the firmware folder is not watched any more");
}

/// Frees snapshots that no release needs, while the folder does not change.
pub(super) async fn sweep_snapshots(service: Rc<Service>) {
    loop {
        service.sweep_due().await;
        loop {
            Timer::after(SWEEP).await;
            let catalog = Arc::clone(&service.catalog.borrow());
            service.snapshots.sweep(&catalog);
            if !service.snapshots.may_free_memory(&catalog) {
                break;
            }
        }
    }
}

/// Tries to use the state folder until that succeeds. Holds its lock as long as the server runs.
pub(super) async fn retry_state(state: Arc<ServerState>) {
    let mut is_complete = state.problem().is_none() && !state.has_unsaved();
    while !is_complete {
        Timer::after(STATE_RETRY).await;
        // The folder may hang.
        let tried = Arc::clone(&state);
        is_complete = unblock("state", move || tried.retry())
            .await
            .unwrap_or(false);
        if is_complete {
            let folder = state.folder().path().display();
            log::info!(target: "state", "the state folder {folder} is used now");
        }
    }
}

/// Ticks the fleet whenever it is due, and pauses the releases whose fuse tripped. There is no periodic timer: a server
/// without requests sleeps until the next due time, and is notified if that time becomes earlier.
pub(super) async fn tick_fleet(edits: RulesEdits) {
    let fleet = &edits.service.fleet;
    let due_changed = fleet.borrow().due_changed();
    loop {
        let due = fleet.borrow().due();
        let is_due = async {
            due.map_or_else(Timer::never, Timer::at).await;
            true
        };
        let is_changed = async {
            due_changed.notified().await;
            false
        };
        if !future::or(is_due, is_changed).await {
            continue;
        }
        let tripped = fleet.borrow_mut().on_due(Instant::now());
        for fused in tripped {
            // Not awaited: the next tick must not depend on the folder.
            edits.spawn(edits.clone().pause(fused));
        }
    }
}

/// Takes requests and a changed list of known devices from the state folder, at once and after each change. `changed`
/// is notified of each change.
pub(super) async fn follow_state(edits: RulesEdits, mut watch: StateWatch, changed: Notify) {
    loop {
        // Not awaited: the firmware folder may hang.
        edits.spawn(edits.clone().take_requests(watch.path().to_owned()));
        watch.changed().await;
        changed.notify();
        edits.service.fleet.borrow_mut().state_folder_changed();
    }
}
