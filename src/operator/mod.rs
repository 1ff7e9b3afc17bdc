//! The OPERATOR'S side: a page, an API and metrics for the people who run the server, on a socket of
//! their own. Started by the server room; nothing of it answers on the sockets of the modules, and
//! nothing of theirs on this one.
//!
//! [`plane`] has the connections, [`head`] and [`reply`] stand between the bytes and async-h1, [`access`]
//! and [`route`] say who may do what, [`api`] does it. The folder stays the truth: what is changed here is
//! a file in the firmware folder, and the watcher finds it there like any other.
//!
//! What would surprise you: everything runs on the thread that serves modules, so whatever touches a disk
//! does so on a thread of its own ([`aside`]).

pub mod access;
mod api;
mod aside;
mod base64;
mod body;
mod events;
pub mod head;
mod metrics;
mod pages;
mod plane;
pub mod read_token;
pub mod reply;
pub mod route;
pub mod target;
pub mod token;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::LocalExecutor;
use smol::channel::Receiver;

use self::access::Access;
use crate::firmware::catalog::Catalog;
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::os::fs::{Folder, sweep_unfinished};
use crate::os::process::start_thread;

/// Bounds of this side.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// The time for a head.
    pub head: Duration,
    /// A body that does not get on for so long is given up.
    pub stall: Duration,
    /// Uploads at a time.
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 64,
            head: Duration::from_secs(10),
            stall: body::STALL,
            uploads: 4,
        }
    }
}

/// All that this side needs, made by the server room.
pub struct Desk {
    /// Who may do what.
    access: Access,
    /// The bounds.
    limits: Limits,
    /// What there is.
    catalog: Box<dyn Fn() -> Arc<Catalog>>,
    /// What is remembered of the devices.
    fleet: Rc<RefCell<Fleet>>,
    /// The firmware folder.
    folder: PathBuf,
    /// Downloads that run.
    running: Box<dyn Fn() -> usize>,
    /// Asks for the folder to be looked through now.
    rescan: Box<dyn Fn()>,
    /// When all this began.
    began: Instant,
    /// The same, Unix seconds.
    started: i64,
    /// Who is connected.
    seats: RefCell<plane::Seats>,
    /// Uploads that run.
    uploads: Cell<usize>,
}

/// What [`Desk::new`] needs.
pub struct Parts {
    /// Who may do what.
    pub access: Access,
    /// The bounds.
    pub limits: Limits,
    /// The catalogue as it is now.
    pub catalog: Box<dyn Fn() -> Arc<Catalog>>,
    /// What is remembered of the devices.
    pub fleet: Rc<RefCell<Fleet>>,
    /// The firmware folder.
    pub folder: PathBuf,
    /// How many downloads run now.
    pub running: Box<dyn Fn() -> usize>,
    /// Asks for the folder to be looked through now. Must not block.
    pub rescan: Box<dyn Fn()>,
}

impl Desk {
    /// Begins now.
    pub fn new(parts: Parts) -> Desk {
        Desk {
            access: parts.access,
            limits: parts.limits,
            catalog: parts.catalog,
            fleet: parts.fleet,
            folder: parts.folder,
            running: parts.running,
            rescan: parts.rescan,
            began: Instant::now(),
            started: unix_now(),
            seats: RefCell::default(),
            uploads: Cell::new(0),
        }
    }
}

/// Opens the listener. The error is a sentence with the flag to change.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    plane::listen(address)
}

/// Removes what uploads left behind in the firmware folder when they were killed, on a thread of its own.
pub fn sweep(folder: PathBuf) {
    let sweep = move || {
        let removed = match Folder::open(&folder) {
            Ok(folder) => sweep_unfinished(&folder),
            Err(_) => 0,
        };
        if removed > 0 {
            log::info!(
                target: "operator",
                files = removed;
                "removed what uploads had left unfinished when the server was killed"
            );
        }
    };
    // Not this time: they are only in the way of nobody.
    let _no_thread = start_thread("sweeping", Box::new(sweep));
}

/// Serves until `ended` is closed; what is being answered then goes on as tasks of `executor`.
pub async fn serve(
    listener: TcpListener,
    desk: Rc<Desk>,
    executor: Weak<LocalExecutor<'static>>,
    ended: Receiver<Infallible>,
) {
    plane::accept(listener, desk, executor, ended).await;
}
