//! What the operator's interface may use, made by `server`.

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

/// Concurrent uploads, at most.
const UPLOADS: usize = 4;

/// Concurrent builds of packages, at most: one needs up to 64 MiB.
#[cfg(feature = "pack")]
const BUILDS: usize = 1;

/// What the public sockets do.
pub struct PublicSide {
    /// The number of running downloads.
    pub running: usize,
    /// Whether `/readyz` on the port for modules answers 200.
    pub is_ready: bool,
}

/// What the operator's interface may use.
pub struct OperatorContext {
    /// Decides about requests.
    pub access: Access,
    /// The catalogue as it is now.
    pub catalog: Box<dyn Fn() -> Arc<Catalog>>,
    /// What is remembered of the devices.
    pub fleet: Rc<RefCell<Fleet>>,
    /// The firmware folder.
    pub folder: PathBuf,
    /// The state folder, for temporary files.
    pub state: PathBuf,
    /// What the public sockets do now.
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
    /// A context whose uptime begins now. The parameters are the public fields.
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
    /// The operator's side of a server that remembers this, with an empty folder.
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
