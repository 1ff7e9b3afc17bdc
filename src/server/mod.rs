//! Wires the rooms together: opens what the flags name, starts the watcher, serves, and ends
//! gracefully.
//!
//! What would surprise you: everything here and in [`crate::device`] runs on one thread, the one that
//! calls [`run`]; only the watcher, the log, the journal, the copying of files and the writing of a
//! pause have threads of their own.
//! Signals are caught before the first of those is started, because a thread inherits what is caught.

mod announce;
#[cfg(feature = "operator")]
mod operator;
mod sockets;
mod state_folder;
mod upkeep;
pub mod words;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::channel::Receiver;
use smol::future::FutureExt as _;
use smol::{LocalExecutor, Timer, block_on, future};

use crate::device::{self, Limits, Service, Stop};
use crate::firmware::catalog::Catalog;
use crate::firmware::known::KnownFiles;
use crate::firmware::snapshot::Snapshots;
use crate::firmware::watch::{WatchOptions, Watcher};
use crate::fleet::events::Event;
use crate::fleet::{self, Fleet, clock};
use crate::logging::{self, Format};
use crate::os::process::{self, Signal, Signals};
use crate::os::without::Feature;
use crate::os::{memory, systemd};
use crate::state::ServerState;
use sockets::Sockets;
use state_folder::StateFolder;

/// The firmware folder if none is named.
pub const DEFAULT_FOLDER: &str = "firmware";

/// What the flags of `serve` say.
#[derive(Debug)]
pub struct Settings {
    /// The firmware folder.
    pub folder: PathBuf,
    /// Where to answer over HTTP.
    pub http: Vec<SocketAddr>,
    /// Where to answer over UDP, and over TCP on the same port.
    pub udp: Vec<SocketAddr>,
    /// Where people are answered, and which.
    pub operator: OperatorSettings,
    /// The state folder, if one was named.
    pub state: Option<PathBuf>,
    /// How long running downloads may go on after the signal to stop.
    pub grace: Duration,
    /// A full scan at least this often.
    pub rescan: Duration,
    /// How log lines look.
    pub log_format: Format,
    /// Which log lines are written.
    pub log_level: log::LevelFilter,
    /// The limits of the public sockets.
    pub limits: Limits,
    /// What is remembered of the devices.
    pub fleet: fleet::FleetSettings,
    /// Bytes of memory for snapshots; `None`: a quarter of what there is.
    pub snapshot_memory: Option<u64>,
    /// What to do without, to try the fallbacks.
    pub without: Vec<Feature>,
    /// Sentences to log at the start: what looks like a mistake in how we were started.
    pub remarks: Vec<String>,
}

/// What the flags say of the operator's side.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// Where to answer; `None`: not at all.
    pub address: Option<SocketAddr>,
    /// The token.
    pub token: Option<String>,
    /// The file that the token is in.
    pub token_file: Option<PathBuf>,
    /// Hosts to answer to besides this machine's own.
    pub hosts: Vec<String>,
}

impl Settings {
    /// The firmware folder `firmware`, and no listener: those are the flags'.
    pub fn new() -> Settings {
        Settings {
            folder: PathBuf::from(DEFAULT_FOLDER),
            http: Vec::new(),
            udp: Vec::new(),
            operator: OperatorSettings {
                address: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8081)),
                token: None,
                token_file: None,
                hosts: Vec::new(),
            },
            state: None,
            grace: Duration::from_secs(30),
            rescan: Duration::from_secs(30),
            log_format: Format::Text,
            log_level: log::LevelFilter::Info,
            limits: Limits::default(),
            fleet: fleet::FleetSettings::default(),
            snapshot_memory: None,
            without: Vec::new(),
            remarks: Vec::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new()
    }
}

/// Serves until a signal says to stop. The error, one sentence, is in the log already.
pub fn run(settings: Settings) -> Result<(), String> {
    // Before anything else opens a descriptor: a wrong LISTEN_FDS must not name one of ours.
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

fn serve(settings: Settings, passed: systemd::Passed, signals: &Signals) -> Result<(), String> {
    for remark in &settings.remarks {
        log::warn!(target: "flags", "{remark}");
    }
    let stall = settings.limits.stall_timeout;
    if stall < Limits::default().stall_timeout {
        log::warn!(
            target: "flags",
            "--stall-timeout {} is below the default of {} s: slow modules are silent for longer than that, since \
             a receiver acknowledges in steps of its window",
            stall.as_secs(),
            Limits::default().stall_timeout.as_secs()
        );
    }
    for feature in &settings.without {
        feature.forgo();
        log::warn!(target: "flags", "doing without {}, as told", feature.name());
    }
    #[cfg(not(feature = "operator"))]
    log::debug!(target: "operator", "this build has no operator's side (feature \"operator\")");
    prepare_folder(&settings.folder)?;
    // Held to the end: its lock keeps a second server out.
    let state = ServerState::open(settings.state.as_deref(), &settings.folder)?;
    match state.problem() {
        Some(lost) => log::warn!(target: "state", "{lost}"),
        None => log::info!(target: "state", folder:% = state.folder().path().display(); ""),
    }
    let state = Arc::new(state);
    process::raise_file_limit();
    let sockets = Sockets::open(&settings, passed)?;
    #[cfg(feature = "operator")]
    let mut sockets = sockets;
    #[cfg(feature = "operator")]
    let desk = operator::prepare(&settings, &state, sockets.operator.take())?;

    let (watcher, catalogs) = Watcher::start(WatchOptions {
        root: settings.folder.clone(),
        known: KnownFiles::open_in(state.folder()),
        rescan: settings.rescan,
        skip: Some(state.folder().path().to_owned()),
    })
    .map_err(|error| format!("the firmware folder cannot be watched: {error}"))?;
    let watcher = Rc::new(watcher);
    // While the folder is being walked.
    let (began, unix) = (Instant::now(), clock::unix_now());
    let fleet = Fleet::open(settings.fleet.clone(), Some(state.folder()), began, unix);
    let fleet = Rc::new(RefCell::new(fleet));
    let stop = Stop::new();
    block_on(async {
        // Not before the folder was walked once, or the first modules would hear that there is nothing.
        let Some(first) = first_catalogue(&catalogs, signals).await? else {
            return Ok(());
        };
        announce::all(&first);
        announce::listeners(&sockets.addresses());
        let service = service(&settings, &state, &watcher, Rc::clone(&fleet));
        service.replace_catalog(Arc::clone(&first));
        let executor = Rc::new(LocalExecutor::new());
        spawn_loops(&executor, &service, sockets, &stop);
        #[cfg(feature = "operator")]
        if let Some(desk) = desk {
            desk.open(
                &settings,
                &service,
                Rc::clone(&fleet),
                &watcher,
                &executor,
                &stop,
            );
        }
        // Boxed, here and elsewhere: what runs a task is compiled anew for each type of task.
        executor
            .spawn(sweep(Rc::clone(&service)).boxed_local())
            .detach();
        let upkeep = upkeep::of_the_fleet(
            Rc::clone(&service),
            Rc::downgrade(&executor),
            settings.folder.clone(),
            Some(StateFolder::new(state.folder().path(), settings.rescan)),
        );
        executor.spawn(upkeep.boxed_local()).detach();
        executor
            .spawn(use_state_later(Arc::clone(&state)).boxed_local())
            .detach();
        executor
            .spawn(follow(catalogs, first, Rc::clone(&service)).boxed_local())
            .detach();
        let end = until_the_end(&settings, signals, &watcher, &service, &stop);
        executor.run(end).await;
        // With their tasks the downloads that still run end, which the fleet is to hear first.
        drop(executor);
        fleet.borrow_mut().stop(Instant::now());
        Ok::<(), String>(())
    })?;
    // Nobody else holds it: what asks it to read again holds it weakly.
    if let Some(watcher) = Rc::into_inner(watcher) {
        watcher.stop();
    }
    log::info!(target: "stop", "stopped");
    Ok(())
}

/// How often snapshots that nobody needs any more are looked for, while there may be some.
const SWEEP: Duration = Duration::from_secs(1800);

/// How often a state folder that cannot be used is tried again.
const STATE_RETRY: Duration = Duration::from_secs(5);

/// The time for replies that are on their way when no download runs any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The firmware folder, created if it is not there.
fn prepare_folder(folder: &Path) -> Result<(), String> {
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
        // What is wrong with a medium may pass; modules hear 503 until then.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EIO | libc::ESTALE | libc::ENOTCONN | libc::ENODEV | libc::ENXIO)
            ) =>
        {
            log::warn!(
                target: "folder",
                "the firmware folder {} cannot be read: {error}; modules are told to come back until it can",
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

/// `None` if a signal says to stop before there is one.
async fn first_catalogue(
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
        let catalog = catalogs.recv().await;
        catalog
            .map(Some)
            .map_err(|_| "the firmware folder is not watched any more".to_owned())
    };
    future::or(arrived, stopped).await
}

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

/// One loop for each socket.
fn spawn_loops(
    executor: &Rc<LocalExecutor<'static>>,
    service: &Rc<Service>,
    sockets: Sockets,
    stop: &Stop,
) {
    let shared = || (Rc::clone(service), Rc::clone(executor), stop.clone());
    for listener in sockets.http {
        let (service, spawner, stop) = shared();
        executor
            .spawn(device::http::serve(listener, service, spawner, stop).boxed_local())
            .detach();
    }
    for listener in sockets.tcp {
        let (service, spawner, stop) = shared();
        executor
            .spawn(device::tcp::serve(listener, service, spawner, stop).boxed_local())
            .detach();
    }
    for socket in sockets.udp {
        let (service, _, stop) = shared();
        executor
            .spawn(device::udp::serve(socket, service, stop).boxed_local())
            .detach();
    }
}

/// Serves from each catalogue as it arrives.
async fn follow(catalogs: Receiver<Arc<Catalog>>, first: Arc<Catalog>, service: Rc<Service>) {
    let mut current = first;
    while let Ok(catalog) = catalogs.recv().await {
        service.replace_catalog(Arc::clone(&catalog));
        announce::changes(&current, &catalog);
        current = catalog;
        let changed = || Event::Catalog {
            unix: clock::unix_now(),
        };
        service.fleet.borrow_mut().events.publish(changed);
    }
    log::error!(target: "folder", "the firmware folder is not watched any more");
}

/// Tries to use the state folder again until that succeeds.
async fn use_state_later(state: Arc<ServerState>) {
    let is_complete = |state: &ServerState| state.problem().is_none() && !state.has_unsaved();
    if is_complete(&state) {
        return;
    }
    loop {
        Timer::after(STATE_RETRY).await;
        // The folder may hang.
        let (say, said) = smol::channel::bounded(1);
        let tried = Arc::clone(&state);
        let run = move || {
            let _nobody_waits_after_the_stop = say.try_send(tried.retry());
        };
        let started = process::start_thread("state", Box::new(run));
        if started.is_ok() && said.recv().await == Ok(true) {
            let folder = state.folder().path().display();
            log::info!(target: "state", "the state folder {folder} is used now");
            return;
        }
    }
}

/// Gives memory back while the folder does not change.
async fn sweep(service: Rc<Service>) {
    loop {
        service.may_be_swept().await;
        loop {
            Timer::after(SWEEP).await;
            let catalog = Arc::clone(&service.catalog.borrow());
            service.snapshots.sweep(&catalog);
            if !service.snapshots.may_give_back(&catalog) {
                break;
            }
        }
    }
}

/// Says that we are ready, follows the signals, and lets running downloads finish.
async fn until_the_end(
    settings: &Settings,
    signals: &Signals,
    watcher: &Watcher,
    service: &Service,
    stop: &Stop,
) {
    systemd::notify("READY=1");
    log::info!(target: "ready", "ready");
    logging::flush();
    until_told_to_stop(signals, watcher, service).await;

    systemd::notify("STOPPING=1");
    stop.raise();
    let last_words = async {
        let late = async {
            Timer::after(LAST_WORDS).await;
        };
        future::or(service.connections_done(), late).await;
    };
    let downloads = service.running_downloads();
    if downloads == 0 {
        return last_words.await;
    }
    log::info!(
        target: "stop",
        downloads = downloads, grace = settings.grace.as_secs();
        "running downloads may finish; a second signal ends them at once"
    );
    let finished = async {
        service.downloads_done().await;
        last_words.await;
        "all downloads have finished"
    };
    let out_of_time = async {
        Timer::after(settings.grace).await;
        "the time for running downloads is over"
    };
    let told_again = async {
        until_told_to_stop(signals, watcher, service).await;
        "a second signal"
    };
    let why = future::or(finished, future::or(told_again, out_of_time)).await;
    log::info!(target: "stop", downloads = service.running_downloads(); "{why}");
}

async fn until_told_to_stop(signals: &Signals, watcher: &Watcher, service: &Service) {
    loop {
        match signals.next().await {
            Ok(Signal::Stop) => return,
            Ok(Signal::Rescan) => {
                log::info!(target: "folder", "looking through the folder: SIGHUP");
                watcher.rescan();
                service.fleet.borrow_mut().state_folder_changed();
            }
            Err(error) => {
                // Without signals a server that runs is better than none.
                log::error!(target: "stop", "signals cannot be read any more: {error}");
                return future::pending().await;
            }
        }
    }
}
