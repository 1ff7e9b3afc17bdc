//! Runs the server: opens what the flags name, watches the firmware folder, serves, and stops gracefully.
//!
//! Order of the start: signals, log, firmware folder, state folder, sockets, watcher, fleet, first catalogue, tasks.
//! Everything here and in [`crate::device`] runs on the thread that calls [`run`]; only the watcher, the log, the
//! journal and blocking work have threads of their own. Signals are blocked before the first of those starts, because a
//! thread inherits the mask.
//!
//! Order of the stop, after SIGTERM or SIGINT: the listeners close, running downloads continue for up to `--grace`, the
//! executor drops the remaining tasks, the fleet writes its journal, the program of `--on-event` gets the waiting
//! notices, the watcher ends, the log is flushed.

mod announce;
mod event_program;
mod firmware_folder;
#[cfg(feature = "operator")]
mod operator;
mod reachability;
mod rules_edits;
mod settings;
#[cfg(feature = "operator")]
mod shared_outcomes;
mod shutdown;
mod sockets;
mod state_watch;
mod tasks;

pub use settings::{DEFAULT_FOLDER, OperatorSettings, Settings};

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smol::future::{or, yield_now};
use smol::{LocalExecutor, block_on};

use crate::device::{Service, Stop};
use crate::firmware::known::KnownFiles;
use crate::firmware::snapshot::Snapshots;
use crate::firmware::watch::{WatchOptions, Watcher};
use crate::fleet::{Fleet, clock};
use crate::logging;
use crate::os::notify::Notify;
use crate::os::process::{self, Signals};
use crate::os::{memory, systemd};
use crate::state::ServerState;
use event_program::EventProgram;
use rules_edits::RulesEdits;
#[cfg(feature = "operator")]
use shared_outcomes::SharedFolder;
use sockets::Sockets;
use state_watch::StateWatch;

/// Serves until a signal to stop arrives. The error, one sentence, is already in the log.
pub fn run(settings: Settings) -> Result<(), String> {
    // Before anything else opens a descriptor: a wrong LISTEN_FDS must not refer to one of ours.
    let passed = systemd::passed_sockets();
    let signals = Signals::catch();
    logging::start(settings.log_format, settings.log_level);
    let ended = match signals {
        Ok(signals) => serve(settings, passed, &signals),
        Err(error) => Err(format!("signals cannot be caught: {error}")),
    };
    if let Err(sentence) = &ended {
        log::error!(target: "stop", "{sentence}");
    }
    logging::flush();
    ended
}

/// Files of the state folder that a person edits while the server runs.
const EDITED: &[&str] = &[
    crate::fleet::known_list::FILE,
    #[cfg(feature = "operator")]
    crate::operator::named_tokens::FILE,
];

fn serve(settings: Settings, passed: systemd::Passed, signals: &Signals) -> Result<(), String> {
    settings.apply_and_warn();
    firmware_folder::prepare(&settings.folder)?;
    #[cfg(feature = "operator")]
    shared_outcomes::check(&settings)?;
    // Held until the end: its lock keeps a second server out.
    let (at, secret) = (settings.state.as_deref(), settings.secret_file.as_deref());
    let state = ServerState::open(at, &settings.folder, secret)?;
    let state = Arc::new(state);
    match state.problem() {
        Some(problem) => log::warn!(target: "state", "{problem}"),
        None => log::info!(target: "state", folder:% = state.folder().path().display(); ""),
    }
    process::raise_file_limit();
    #[cfg_attr(not(feature = "operator"), allow(unused_mut))]
    let mut sockets = Sockets::open(&settings, passed)?;
    #[cfg(feature = "operator")]
    let operator = operator::prepare(&settings, &state, sockets.operator.take())?;

    let (watcher, catalogs) = Watcher::start(WatchOptions {
        root: settings.folder.clone(),
        known: KnownFiles::open_in(state.folder()),
        rescan: settings.rescan,
        skip: Some(state.folder().path().to_owned()),
    })
    .map_err(|error| format!("the firmware folder cannot be watched: {error}"))?;
    let watcher = Rc::new(watcher);
    // The journal is loaded while the folder is being walked.
    let (began, unix) = (Instant::now(), clock::unix_now());
    let mut fleet = Fleet::open(settings.fleet.clone(), Some(state.folder()), began, unix);
    let command = settings.on_event.as_deref();
    #[cfg(feature = "operator")]
    let shared_folder = SharedFolder::open(&settings, &state, &mut fleet);
    let program = command.and_then(|command| EventProgram::start(command, &mut fleet.events));
    let fleet = Rc::new(RefCell::new(fleet));

    block_on(async {
        // Without the first catalogue, modules would be told that there is nothing for them.
        let Some(first) = firmware_folder::first_catalogue(&catalogs, signals).await? else {
            return Ok(());
        };
        announce::log_catalog(&first);
        announce::log_listeners(&sockets.addresses());
        let service = service(&settings, &state, &watcher, Rc::clone(&fleet));
        service.replace_catalog(Arc::clone(&first));

        let stop = Stop::new();
        let executor = Rc::new(LocalExecutor::new());
        let state_changed = Notify::default();
        #[cfg_attr(not(feature = "operator"), allow(unused_mut))]
        let mut listeners = tasks::spawn_listeners(&executor, &service, sockets, &stop);
        #[cfg(feature = "operator")]
        if let Some(operator) = operator {
            let changed = state_changed.clone();
            listeners.push(operator.open(&settings, &service, &watcher, &executor, &stop, changed));
        }
        let watch = StateWatch::new(state.folder().path(), EDITED, settings.rescan);
        let edits = RulesEdits::new(&service, &executor, &settings.folder);
        let follow = tasks::follow_catalogues(catalogs, first, Rc::clone(&service));
        executor.spawn(follow).detach();
        executor
            .spawn(tasks::sweep_snapshots(Rc::clone(&service)))
            .detach();
        executor
            .spawn(tasks::retry_state(Arc::clone(&state)))
            .detach();
        #[cfg(feature = "operator")]
        if let Some(folder) = &shared_folder {
            let share = shared_outcomes::share(Arc::clone(folder), Rc::clone(&service));
            executor.spawn(share).detach();
        }
        executor.spawn(tasks::tick_fleet(edits.clone())).detach();
        executor
            .spawn(tasks::follow_state(edits, watch, state_changed))
            .detach();

        let served =
            shutdown::serve_until_stopped(&settings, signals, &watcher, &service, &stop, listeners);
        or(served, run_tasks(&executor)).await;
        // Drops the tasks, and with them the downloads that still run, before the fleet stops.
        drop(executor);
        #[cfg(feature = "operator")]
        if let Some(folder) = &shared_folder {
            shared_outcomes::share_last(folder, &mut fleet.borrow_mut());
        }
        fleet.borrow_mut().stop(Instant::now());
        if let Some(program) = program {
            program.stop(&mut fleet.borrow_mut().events);
        }
        Ok::<(), String>(())
    })?;
    // This is the last owner: all others hold the watcher weakly.
    if let Some(watcher) = Rc::into_inner(watcher) {
        watcher.stop();
    }
    log::info!(target: "stop", "stopped");
    Ok(())
}

/// Runs the tasks of `executor` without end. The reactor checks its sockets after every [`process::POLLS`] polls.
async fn run_tasks(executor: &LocalExecutor<'_>) {
    loop {
        for _ in 0..process::POLLS {
            executor.tick().await;
        }
        yield_now().await;
    }
}

/// Creates the context that the public sockets share.
fn service(
    settings: &Settings,
    state: &ServerState,
    watcher: &Rc<Watcher>,
    fleet: Rc<RefCell<Fleet>>,
) -> Rc<Service> {
    let budget = settings.snapshot_memory.unwrap_or(memory::total() / 4);
    let spill = Some(state.folder().path().to_owned());
    let watcher = Rc::downgrade(watcher);
    let reread = move |path: &str| {
        if let Some(watcher) = watcher.upgrade() {
            watcher.reread(path);
        }
    };
    Rc::new(Service::new(
        settings.limits.clone(),
        Snapshots::new(settings.folder.clone(), budget, spill),
        fleet,
        &state.secret(),
        Box::new(reread),
    ))
}
