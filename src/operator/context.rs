//! The context of the operator's interface, created by `server`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smol::lock::Semaphore;

use super::access::Access;
use crate::firmware::catalog::Catalog;
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;

/// Maximum number of concurrent uploads.
const UPLOADS: usize = 4;

/// Maximum number of concurrent builds of packages: one needs up to 64 MiB.
#[cfg(feature = "pack")]
const BUILDS: usize = 1;

/// State of the public sockets.
pub struct PublicSide {
    /// Number of running downloads.
    pub running: usize,
    /// Whether `/readyz` on the port for modules answers 200.
    pub is_ready: bool,
}

/// The data and functions that the operator's interface may use.
pub struct OperatorContext {
    /// The access rules.
    pub access: Access,
    /// Returns the current catalogue.
    pub catalog: Box<dyn Fn() -> Arc<Catalog>>,
    /// The records of the devices.
    pub fleet: Rc<RefCell<Fleet>>,
    /// The firmware folder.
    pub folder: PathBuf,
    /// The state folder, for temporary files.
    pub state: PathBuf,
    /// Returns the current state of the public sockets.
    pub public_side: Box<dyn Fn() -> PublicSide>,
    /// Requests a scan of the firmware folder. Does not block.
    pub rescan: Box<dyn Fn()>,
    pub(super) start: Instant,
    /// [`OperatorContext::start`] in Unix seconds.
    pub(super) started: i64,
    pub(super) uploads: Semaphore,
    #[cfg(feature = "pack")]
    pub(super) builds: Semaphore,
}

impl OperatorContext {
    /// Creates a context whose uptime begins now. The parameters are the public fields.
    pub fn new(
        access: Access,
        catalog: Box<dyn Fn() -> Arc<Catalog>>,
        fleet: Rc<RefCell<Fleet>>,
        folder: PathBuf,
        state: PathBuf,
        public_side: Box<dyn Fn() -> PublicSide>,
        rescan: Box<dyn Fn()>,
    ) -> OperatorContext {
        OperatorContext {
            access,
            catalog,
            fleet,
            folder,
            state,
            public_side,
            rescan,
            start: Instant::now(),
            started: unix_now(),
            uploads: Semaphore::new(UPLOADS),
            #[cfg(feature = "pack")]
            builds: Semaphore::new(BUILDS),
        }
    }
}

#[cfg(test)]
impl OperatorContext {
    /// Creates the context of a server with this fleet and an empty folder.
    pub fn of_fleet(fleet: Fleet) -> OperatorContext {
        OperatorContext::new(
            Access::new("token", None, &[], ([127, 0, 0, 1], 80).into()),
            Box::new(|| Arc::new(Catalog::default())),
            Rc::new(RefCell::new(fleet)),
            PathBuf::new(),
            PathBuf::new(),
            Box::new(|| PublicSide {
                running: 0,
                is_ready: true,
            }),
            Box::new(|| {}),
        )
    }
}
