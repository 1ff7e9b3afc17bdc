//! The modules and the server of the model, and what happened to them.

use std::net::{IpAddr, Ipv4Addr};

use super::super::*;
use crate::device::plan::{Answer, DeliveryPlan};
use crate::firmware::ContentId;
use crate::fleet::entry::JournalEntry;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::{FileRange, Transfer, TransferOutcome};

/// Sizes of the contents, in bytes.
const CONTENTS: [usize; 3] = [1000, 900, 1100];
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bytes that a module receives of each reply before the cut, and bytes that its kernel acknowledges in addition.
pub const RECEIVED: u64 = 30;
const AHEAD: u64 = 30;

/// Role of a module in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelModule {
    /// A module with an id.
    First,
    /// A module with the same id that reports the same.
    Clone,
    /// A module with the same id on another core.
    OtherCore,
    /// A module without an id.
    WithoutId,
    /// A module without an id behind the same address.
    Neighbour,
}

const MODULES: [ModelModule; 5] = [
    ModelModule::First,
    ModelModule::Clone,
    ModelModule::OtherCore,
    ModelModule::WithoutId,
    ModelModule::Neighbour,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The module asks for byte 0, and receives some bytes; the connection stays open.
    Begin(usize),
    /// The module's connections end, and the server notices that.
    Cut(usize),
    /// The module asks for the rest of what it has.
    Resume(usize),
    /// The module asks for the rest with If-Range.
    ResumeNamed(usize),
    /// The first module asks for the rest, and reports the other core.
    ResumeRenamed,
    Release,
    Hour,
    Day,
    /// The server is killed, and starts again with its journal.
    Restart,
    /// The server is killed, and starts again without its state.
    Loss,
}

#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Contents of the bytes that the module has, in order.
    pub contents: Vec<ContentId>,
    pub length: u64,
}

/// A download that was begun, as it happened.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    module: usize,
    content: ContentId,
    /// Whether the module reported the other core.
    other_core: bool,
    reach: u64,
    last: Instant,
    lost: bool,
    /// Whether the module's connection is open.
    open: bool,
}

pub struct World {
    service: Rc<Service>,
    catalogs: Vec<Arc<Catalog>>,
    pub contents: Vec<ContentId>,
    clone_at: IpAddr,
    start: Instant,
    now: Instant,
    released: usize,
    pub modules: Vec<Module>,
    open: Vec<(usize, Transfer)>,
    begun: Vec<Begun>,
    journal: Rc<RefCell<Vec<JournalEntry>>>,
    pub counts: Counts,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub sequences: u64,
    pub resumed: u64,
    pub refused: u64,
    /// Splices that the server cannot detect.
    pub exempt: u64,
}

/// The address and the query of a module.
fn ask(role: ModelModule, other_core: bool, clone_at: IpAddr) -> (IpAddr, String) {
    let at = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
    let core = if other_core { "V0018" } else { "V0017" };
    let imei = match role {
        ModelModule::WithoutId | ModelModule::Neighbour => "",
        _ => IMEI,
    };
    let address = match role {
        ModelModule::First => at(1),
        ModelModule::Clone => clone_at,
        ModelModule::OtherCore => at(3),
        ModelModule::WithoutId | ModelModule::Neighbour => at(4),
    };
    let query = format!("imei={imei}&firmware_name=P_Luat_{core}_ASR1802&version=1.0.0");
    (address, query)
}

fn is_same_id(one: ModelModule, other: ModelModule) -> bool {
    let has_no_id = |role| matches!(role, ModelModule::WithoutId | ModelModule::Neighbour);
    has_no_id(one) == has_no_id(other)
}

impl Begun {
    /// Whether the server must know this download.
    fn is_alive(&self, now: Instant) -> bool {
        self.is_younger(DAY, now)
    }

    fn is_younger(&self, than: Duration, now: Instant) -> bool {
        !self.lost && (self.open || now - self.last < than)
    }
}

impl World {
    pub fn new(clone_at: IpAddr) -> World {
        let start = Instant::now() + 100 * DAY;
        let mut catalogs: Vec<Arc<Catalog>> = Vec::new();
        let stamp = os::fs::stamp(&std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let file = |number: usize| {
            let path = format!("P/2.0.{number}/u.bin");
            let mut inspector = Inspector::new(&path);
            inspector.update(&firmware(number as u32 + 1, CONTENTS[number]));
            ScannedFile {
                path,
                stamp,
                inspected: inspector.finish().unwrap(),
            }
        };
        for number in 0..CONTENTS.len() {
            let found = ScanResult {
                files: (0..=number).map(file).collect(),
                ..ScanResult::default()
            };
            catalogs.push(Arc::new(Catalog::build(found)));
        }
        let last = catalogs.last().unwrap();
        let releases = &last.project("P").unwrap().releases;
        let mut contents: Vec<_> = releases.iter().map(|r| r.packages[0].content).collect();
        contents.reverse();
        let mut world = World {
            service: service(),
            catalogs,
            contents,
            clone_at,
            start,
            now: start,
            released: 0,
            modules: Vec::new(),
            open: Vec::new(),
            begun: Vec::new(),
            journal: Rc::default(),
            counts: Counts::default(),
        };
        world.reset();
        world
    }

    /// Resets everything to the start of a sequence.
    pub fn reset(&mut self) {
        self.now = self.start;
        self.released = 0;
        self.modules = vec![Module::default(); MODULES.len()];
        self.open.clear();
        self.begun.clear();
        self.journal.borrow_mut().clear();
        self.serve();
    }

    /// Starts a server with the content of the journal.
    fn serve(&mut self) {
        self.open.clear();
        let fleet = Fleet::replayed(self.start, &self.journal, self.now);
        *self.service.fleet.borrow_mut() = fleet;
        let catalog = Arc::clone(&self.catalogs[self.released]);
        self.service.replace_catalog(catalog);
    }

    fn is_possible(&self, event: Event) -> bool {
        let is_known = |module: usize| self.begun.iter().any(|begun| begun.module == module);
        match event {
            // The clone is equivalent to the first module, and the neighbour to the nameless one: one order is enough.
            Event::Begin(module) => match MODULES[module] {
                ModelModule::Clone | ModelModule::Neighbour => is_known(module - 1),
                _ => true,
            },
            Event::Cut(module) => self.open.iter().any(|(open, _)| *open == module),
            Event::Resume(module) | Event::ResumeNamed(module) => self.modules[module].length > 0,
            Event::ResumeRenamed => self.modules[0].length > 0,
            Event::Release => self.released + 1 < self.catalogs.len(),
            Event::Hour | Event::Day | Event::Restart | Event::Loss => true,
        }
    }

    pub fn events(&self) -> Vec<Event> {
        let all = 0..MODULES.len();
        let mut events: Vec<_> = all.clone().map(Event::Begin).collect();
        events.extend(all.clone().map(Event::Cut));
        events.extend(all.map(Event::Resume));
        events.extend([
            Event::ResumeNamed(0),
            Event::ResumeNamed(3),
            Event::ResumeRenamed,
            Event::Release,
            Event::Hour,
            Event::Day,
            Event::Restart,
            Event::Loss,
        ]);
        events.retain(|event| self.is_possible(*event));
        events
    }

    /// Performs the event. The error says what is wrong then.
    pub fn perform(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Begin(module) => self.request(module, 0, false, false),
            Event::Resume(module) => {
                self.request(module, self.modules[module].length, false, false)
            }
            Event::ResumeNamed(module) => {
                self.request(module, self.modules[module].length, true, false)
            }
            Event::ResumeRenamed => self.request(0, self.modules[0].length, false, true),
            Event::Cut(module) => {
                let open = self.open.extract_if(.., |(open, _)| *open == module);
                for (_, transfer) in open {
                    let mut fleet = self.service.fleet.borrow_mut();
                    fleet.end(
                        transfer,
                        TransferOutcome::Incomplete { proxied: false },
                        self.now,
                    );
                }
                let now = self.now;
                let open = |begun: &&mut Begun| begun.module == module && begun.open;
                for begun in self.begun.iter_mut().filter(open) {
                    (begun.open, begun.last) = (false, now);
                }
                Ok(())
            }
            Event::Release => {
                self.released += 1;
                let catalog = Arc::clone(&self.catalogs[self.released]);
                self.service.replace_catalog(catalog);
                Ok(())
            }
            Event::Hour => self.advance(HOUR),
            Event::Day => self.advance(DAY),
            Event::Restart | Event::Loss => {
                for begun in &mut self.begun {
                    begun.lost |= event == Event::Loss;
                    // After a kill, the progress of an open connection is unknown.
                    if begun.open {
                        begun.reach = u64::MAX;
                    }
                    begun.open = false;
                }
                if event == Event::Loss {
                    self.journal.borrow_mut().clear();
                }
                self.serve();
                Ok(())
            }
        }
    }

    fn advance(&mut self, time: Duration) -> Result<(), String> {
        self.now += time;
        Ok(())
    }

    fn answer(&self, (address, query): (IpAddr, String), headers: &str) -> Answer {
        let text = format!("GET /luat/update?{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let peer = SocketAddr::new(address, 4000);
        answer(&self.service, &text, peer, self.now)
    }

    fn request(
        &mut self,
        module: usize,
        from: u64,
        named: bool,
        renamed: bool,
    ) -> Result<(), String> {
        let role = MODULES[module];
        let other_core = renamed || role == ModelModule::OtherCore;
        let mut headers = String::new();
        if from > 0 {
            headers = format!("Range: bytes={from}-\r\n");
        }
        if named && let Some(content) = self.modules[module].contents.first() {
            headers += &format!("If-Range: \"{content}\"\r\n");
        }
        let asked = ask(role, other_core, self.clone_at);
        match self.answer(asked, &headers) {
            Answer::Deliver(plan) => self.deliver(module, &plan, renamed),
            // No bytes, for example because of a hold.
            Answer::Reply(_) if from == 0 => Ok(()),
            Answer::Reply(_) => {
                self.counts.refused += 1;
                match renamed || self.may_refuse(module, from, named) {
                    true => Ok(()),
                    false => Err(format!(
                        "{role:?} is refused at {from}, though {:?} of {:?} began",
                        self.modules[module], self.begun
                    )),
                }
            }
        }
    }

    /// Whether a resume may be refused.
    fn may_refuse(&self, module: usize, from: u64, named: bool) -> bool {
        let content = self.modules[module].contents.first();
        let begun = || self.begun.iter().filter(|begun| begun.is_alive(self.now));
        let other_core = MODULES[module] == ModelModule::OtherCore;
        let own = begun().any(|begun| {
            (begun.module, begun.other_core) == (module, other_core)
                && Some(&begun.content) == content
                && (begun.reach >= from || named)
        });
        let role = MODULES[module];
        let others = self.begun.iter().any(|begun| {
            let same_report = begun.other_core == other_core;
            let lifetime = if same_report { WEEK } else { DAY };
            begun.is_younger(lifetime, self.now)
                && is_same_id(MODULES[begun.module], role)
                && Some(&begun.content) != content
                && begun.reach >= from
        });
        !own || (others && !named)
    }

    fn deliver(&mut self, module: usize, plan: &DeliveryPlan, renamed: bool) -> Result<(), String> {
        let (content, now) = (plan.content, self.now);
        let part = FileRange {
            content,
            to: ShortVersion::of(&plan.subject.to),
            size: plan.size,
            start: plan.start,
            end: plan.end,
        };
        let high = (plan.start + RECEIVED + AHEAD).min(plan.end);
        {
            let mut fleet = self.service.fleet.borrow_mut();
            let requester = plan.subject.requester.as_ref();
            let (transfer, _written) = fleet.begin(requester, Some(&plan.owner), part, now);
            fleet.sent(&transfer, high);
            self.open.push((module, transfer));
        }
        let mut wrong = Ok(());
        if plan.start == 0 {
            self.modules[module] = Module::default();
        } else {
            self.counts.resumed += 1;
            let has = &self.modules[module];
            if has.length != plan.start {
                return Err(format!(
                    "{:?} gets bytes that it did not ask for",
                    MODULES[module]
                ));
            }
            if has.contents.iter().any(|other| *other != content) {
                match self.is_undetectable(module, content, renamed) {
                    true => self.counts.exempt += 1,
                    false => wrong = Err(format!("{:?} is spliced", MODULES[module])),
                }
            }
        }
        let has = &mut self.modules[module];
        // A spliced image is lost. Later events are judged by its last bytes.
        has.contents = vec![content];
        has.length = (plan.start + RECEIVED).min(plan.end);
        let other_core = renamed || MODULES[module] == ModelModule::OtherCore;
        let same = |begun: &&mut Begun| {
            (begun.module, begun.content, begun.other_core) == (module, content, other_core)
                && begun.is_alive(now)
        };
        let begun = self.begun.iter_mut().find(same);
        match begun {
            Some(begun) => {
                begun.reach = begun.reach.max(high);
                (begun.last, begun.open) = (now, true);
            }
            None => self.begun.push(Begun {
                module,
                content,
                other_core,
                reach: high,
                last: now,
                lost: false,
                open: true,
            }),
        }
        wrong
    }

    /// Whether the server cannot detect that this is not the content that the module has: the module's own beginning is
    /// gone, and another module that reports the same began this content.
    fn is_undetectable(&self, module: usize, content: ContentId, renamed: bool) -> bool {
        let has = self.modules[module].contents.first();
        let other_core = renamed || MODULES[module] == ModelModule::OtherCore;
        let own = self.begun.iter().any(|begun| {
            let lifetime = if begun.other_core == other_core {
                WEEK
            } else {
                DAY
            };
            begun.module == module
                && Some(&begun.content) == has
                && begun.is_younger(lifetime, self.now)
        });
        let reported = match (renamed, MODULES[module]) {
            (true, _) => ModelModule::OtherCore,
            (false, ModelModule::Clone) => ModelModule::First,
            (false, ModelModule::Neighbour) => ModelModule::WithoutId,
            (false, role) => role,
        };
        let other_began = self.begun.iter().any(|begun| {
            let role = match MODULES[begun.module] {
                ModelModule::Clone => ModelModule::First,
                ModelModule::Neighbour => ModelModule::WithoutId,
                role => role,
            };
            begun.module != module && begun.content == content && role == reported && !begun.lost
        });
        !own && other_began
    }

    /// Runs a sequence from the start. The error says where and how it goes wrong.
    pub fn run(&mut self, events: &[Event]) -> Result<(), String> {
        self.reset();
        for (at, event) in events.iter().enumerate() {
            let result = self.perform(*event);
            result.map_err(|wrong| format!("{wrong} after {:?}", &events[..=at]))?;
        }
        Ok(())
    }

    /// Runs all sequences that begin with `events`, up to the length `depth`.
    pub fn run_all(&mut self, events: &mut Vec<Event>, depth: usize) -> Result<(), String> {
        self.run(events)?;
        self.counts.sequences += 1;
        if events.len() == depth {
            return Ok(());
        }
        for event in self.events() {
            let is_idle = matches!(event, Event::Restart | Event::Loss);
            if is_idle && events.last() == Some(&event) {
                continue;
            }
            events.push(event);
            self.run_all(events, depth)?;
            events.pop();
        }
        Ok(())
    }
}
