//! A bounded model of resumed downloads: every short sequence of events, and random long ones, against the real
//! answers and the real memory of the fleet, with a fake clock and without sockets.
//!
//! The only state of the model is what each module has received; the two properties are judged by what happened.
//!
//! 1. No sequence splices two contents. One case is exempt, since the server cannot know better: the module's own
//!    beginning was lost with the state (or is over a week old, or over a day and by a module that says something else
//!    by now), and since then another module with the same identity began another content. The requests of both are
//!    the same, byte for byte.
//! 2. A resume is refused only if two contents that were begun under the id reach its offset, or its own beginning is
//!    older than a day or lost, or it says something else of itself than at its beginning.
//!
//! ```text
//! LUAT_OTA_MODEL_DEPTH=7 cargo test --release --lib device::tests::model -- --nocapture
//! ```

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::device::answer::{Answer, Plan, answer};
use crate::firmware::ContentId;
use crate::fleet::entry::JournalEntry;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::{FileRange, Transfer, TransferOutcome};
use crate::wire::head::{self, HeadLimits, HeadProgress};

/// Length of all sequences that are tried, unless `LUAT_OTA_MODEL_DEPTH` says otherwise.
const DEPTH: usize = 5;

/// Random sequences, and their length.
const RANDOM: usize = 2000;
const RANDOM_LENGTH: usize = 40;

/// Sizes of the contents, in bytes.
const CONTENTS: [usize; 3] = [1000, 900, 1100];
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bytes that a module receives of each reply before it is cut, and bytes that its kernel acknowledges beyond.
const RECEIVED: u64 = 30;
const AHEAD: u64 = 30;

/// A module's part in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// With an id.
    First,
    /// With the same id, saying the same.
    Clone,
    /// With the same id, on another core.
    OtherCore,
    /// Without an id.
    Nameless,
    /// Without an id, behind the same address.
    Neighbour,
}

const MODULES: [Who; 5] = [
    Who::First,
    Who::Clone,
    Who::OtherCore,
    Who::Nameless,
    Who::Neighbour,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Asks for byte 0, and receives some bytes; the connection stays open.
    Begin(usize),
    /// Its connections end, and the server sees it.
    Cut(usize),
    /// Asks for the rest of what it has.
    Resume(usize),
    /// The same with If-Range.
    ResumeNamed(usize),
    /// The first module resumes as one on the other core.
    ResumeRenamed,
    Release,
    Hour,
    Day,
    /// The server is killed and reads its journal.
    Restart,
    /// The same without its state.
    Loss,
}

#[derive(Clone, Debug, Default)]
struct Module {
    /// Contents of the bytes that it has, in order.
    contents: Vec<ContentId>,
    length: u64,
}

/// A content that was begun, as it happened.
#[derive(Clone, Copy, Debug)]
struct Begun {
    module: usize,
    content: ContentId,
    /// As one on the other core.
    other_core: bool,
    reach: u64,
    last: Instant,
    lost: bool,
    /// Its connection is open.
    open: bool,
}

struct World {
    service: Rc<Service>,
    catalogs: Vec<Arc<Catalog>>,
    contents: Vec<ContentId>,
    clone_at: IpAddr,
    start: Instant,
    now: Instant,
    released: usize,
    modules: Vec<Module>,
    open: Vec<(usize, Transfer)>,
    begun: Vec<Begun>,
    journal: Rc<RefCell<Vec<JournalEntry>>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    sequences: u64,
    resumed: u64,
    refused: u64,
    /// Splices that the server cannot know of.
    exempt: u64,
}

/// The address and the query of a module.
fn ask(who: Who, other_core: bool, clone_at: IpAddr) -> (IpAddr, String) {
    let at = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
    let core = if other_core { "V0018" } else { "V0017" };
    let imei = match who {
        Who::Nameless | Who::Neighbour => "",
        _ => IMEI,
    };
    let address = match who {
        Who::First => at(1),
        Who::Clone => clone_at,
        Who::OtherCore => at(3),
        Who::Nameless | Who::Neighbour => at(4),
    };
    let query = format!("imei={imei}&firmware_name=P_Luat_{core}_ASR1802&version=1.0.0");
    (address, query)
}

fn is_same_id(one: Who, other: Who) -> bool {
    let is_nameless = |who| matches!(who, Who::Nameless | Who::Neighbour);
    is_nameless(one) == is_nameless(other)
}

impl Begun {
    /// The server must know of it.
    fn is_alive(&self, now: Instant) -> bool {
        self.is_younger(DAY, now)
    }

    fn is_younger(&self, than: Duration, now: Instant) -> bool {
        !self.lost && (self.open || now - self.last < than)
    }
}

impl World {
    fn new(clone_at: IpAddr) -> World {
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
            let before = catalogs.last().map(|catalog| &**catalog);
            catalogs.push(Arc::new(Catalog::build(found, before, start)));
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

    /// Everything at its beginning.
    fn reset(&mut self) {
        self.now = self.start;
        self.released = 0;
        self.modules = vec![Module::default(); MODULES.len()];
        self.open.clear();
        self.begun.clear();
        self.journal.borrow_mut().clear();
        self.serve();
    }

    /// A server starts, with what the journal has.
    fn serve(&mut self) {
        self.open.clear();
        let fleet = Fleet::replayed(self.start, &self.journal, self.now);
        *self.service.fleet.borrow_mut() = fleet;
        let catalog = Arc::clone(&self.catalogs[self.released]);
        self.service.replace_catalog(catalog);
    }

    fn can(&self, event: Event) -> bool {
        let is_known = |module: usize| self.begun.iter().any(|begun| begun.module == module);
        match event {
            // The clone is the first module's equal, and the neighbour the nameless one's.
            Event::Begin(module) => match MODULES[module] {
                Who::Clone | Who::Neighbour => is_known(module - 1),
                _ => true,
            },
            Event::Cut(module) => self.open.iter().any(|(open, _)| *open == module),
            Event::Resume(module) | Event::ResumeNamed(module) => self.modules[module].length > 0,
            Event::ResumeRenamed => self.modules[0].length > 0,
            Event::Release => self.released + 1 < self.catalogs.len(),
            Event::Hour | Event::Day | Event::Restart | Event::Loss => true,
        }
    }

    fn events(&self) -> Vec<Event> {
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
        events.retain(|event| self.can(*event));
        events
    }

    /// What is wrong after the event.
    fn happen(&mut self, event: Event) -> Result<(), String> {
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
            Event::Hour => self.pass(HOUR),
            Event::Day => self.pass(DAY),
            Event::Restart | Event::Loss => {
                for begun in &mut self.begun {
                    begun.lost |= event == Event::Loss;
                    // How far an open connection came is not known after a kill.
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

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        self.now += time;
        Ok(())
    }

    fn answer(&self, (address, query): (IpAddr, String), headers: &str) -> Answer {
        let text = format!("GET /luat/update?{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let limits = HeadLimits {
            bytes: 8192,
            headers: 64,
        };
        let HeadProgress::Complete(head, _) = head::read(text.as_bytes(), limits) else {
            panic!("no head");
        };
        let peer = SocketAddr::new(address, 4000);
        answer(&self.service, &head, b"", (peer, None), self.now)
    }

    fn request(
        &mut self,
        module: usize,
        from: u64,
        named: bool,
        renamed: bool,
    ) -> Result<(), String> {
        let who = MODULES[module];
        let other_core = renamed || who == Who::OtherCore;
        let mut headers = String::new();
        if from > 0 {
            headers = format!("Range: bytes={from}-\r\n");
        }
        if named && let Some(content) = self.modules[module].contents.first() {
            headers += &format!("If-Range: \"{content}\"\r\n");
        }
        let asked = ask(who, other_core, self.clone_at);
        match self.answer(asked, &headers) {
            Answer::Deliver(plan) => self.deliver(module, &plan, renamed),
            // No bytes: held back, say.
            Answer::Reply(_) if from == 0 => Ok(()),
            Answer::Reply(_) => {
                self.counts.refused += 1;
                match renamed || self.may_refuse(module, from, named) {
                    true => Ok(()),
                    false => Err(format!(
                        "{who:?} is refused at {from}, though {:?} of {:?} began",
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
        let other_core = MODULES[module] == Who::OtherCore;
        let own = begun().any(|begun| {
            (begun.module, begun.other_core) == (module, other_core)
                && Some(&begun.content) == content
                && (begun.reach >= from || named)
        });
        let who = MODULES[module];
        let others = self.begun.iter().any(|begun| {
            let says_the_same = begun.other_core == other_core;
            let counts = if says_the_same { WEEK } else { DAY };
            begun.is_younger(counts, self.now)
                && is_same_id(MODULES[begun.module], who)
                && Some(&begun.content) != content
                && begun.reach >= from
        });
        !own || (others && !named)
    }

    fn deliver(&mut self, module: usize, plan: &Plan, renamed: bool) -> Result<(), String> {
        let (content, now) = (plan.content, self.now);
        let part = FileRange {
            content,
            to: ShortVersion::of(&plan.about.to),
            size: plan.size,
            start: plan.start,
            end: plan.end,
        };
        let high = (plan.start + RECEIVED + AHEAD).min(plan.end);
        {
            let mut fleet = self.service.fleet.borrow_mut();
            let who = plan.about.who.as_ref();
            let (transfer, _written) = fleet.begin(who, Some(&plan.owner), part, now);
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
                match self.cannot_be_known(module, content, renamed) {
                    true => self.counts.exempt += 1,
                    false => wrong = Err(format!("{:?} is spliced", MODULES[module])),
                }
            }
        }
        let has = &mut self.modules[module];
        // A spliced image is lost; what follows is judged by its last bytes.
        has.contents = vec![content];
        has.length = (plan.start + RECEIVED).min(plan.end);
        let other_core = renamed || MODULES[module] == Who::OtherCore;
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

    /// Whether the server cannot know that this is not the content that the module has: its own beginning is gone,
    /// and another module that says the same began that content.
    fn cannot_be_known(&self, module: usize, content: ContentId, renamed: bool) -> bool {
        let has = self.modules[module].contents.first();
        let other_core = renamed || MODULES[module] == Who::OtherCore;
        let own = self.begun.iter().any(|begun| {
            let counts = if begun.other_core == other_core {
                WEEK
            } else {
                DAY
            };
            begun.module == module
                && Some(&begun.content) == has
                && begun.is_younger(counts, self.now)
        });
        let says = match (renamed, MODULES[module]) {
            (true, _) => Who::OtherCore,
            (false, Who::Clone) => Who::First,
            (false, Who::Neighbour) => Who::Nameless,
            (false, who) => who,
        };
        let twin = self.begun.iter().any(|begun| {
            let who = match MODULES[begun.module] {
                Who::Clone => Who::First,
                Who::Neighbour => Who::Nameless,
                who => who,
            };
            begun.module != module && begun.content == content && who == says && !begun.lost
        });
        !own && twin
    }

    /// Runs a sequence from the beginning; where and how it goes wrong.
    fn run(&mut self, events: &[Event]) -> Result<(), String> {
        self.reset();
        for (at, event) in events.iter().enumerate() {
            let happened = self.happen(*event);
            happened.map_err(|wrong| format!("{wrong} after {:?}", &events[..=at]))?;
        }
        Ok(())
    }

    /// All sequences that begin like this, to this length.
    fn all(&mut self, events: &mut Vec<Event>, depth: usize) -> Result<(), String> {
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
            self.all(events, depth)?;
            events.pop();
        }
        Ok(())
    }
}

fn depth() -> usize {
    let depth = std::env::var("LUAT_OTA_MODEL_DEPTH");
    depth.map_or(DEPTH, |depth| depth.parse().expect("a number"))
}

/// The clone asks from the same /24 as the first module, or from elsewhere.
const CLONES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(172, 16, 9, 9)];

// Cases 23 to 27.
#[test]
fn no_sequence_of_events_splices_two_contents_or_refuses_without_need() {
    // Where the clone is matters to the loop guard alone: one event less there.
    for (clone_at, depth) in CLONES.into_iter().zip([depth(), depth() - 1]) {
        let mut world = World::new(clone_at.into());
        let outcome = world.all(&mut Vec::new(), depth);
        println!(
            "clone at {clone_at}, length up to {depth}: {:?}",
            world.counts
        );
        outcome.unwrap();
        assert!(world.counts.resumed > 0 && world.counts.refused > 0);
    }
}

#[test]
fn no_random_sequence_splices_two_contents_or_refuses_without_need() {
    for (seed, clone_at) in CLONES.into_iter().enumerate() {
        let mut world = World::new(clone_at.into());
        let mut state = seed as u64 + 1;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..RANDOM {
            world.reset();
            let mut events = Vec::new();
            while events.len() < RANDOM_LENGTH {
                let possible = world.events();
                let event = possible[random(possible.len())];
                // Else hardly anything would live long enough to be resumed.
                if matches!(event, Event::Day | Event::Loss) && random(4) > 0 {
                    continue;
                }
                events.push(event);
                let happened = world.happen(event);
                happened
                    .map_err(|wrong| format!("{wrong} after {events:?}"))
                    .unwrap();
            }
            world.counts.sequences += 1;
        }
        println!(
            "clone at {clone_at}, {RANDOM_LENGTH} random events: {:?}",
            world.counts
        );
    }
}

/// Runs a sequence; the contents and the length that the module has at its end.
fn after(events: &[Event], module: usize) -> (Vec<ContentId>, u64, Counts, Vec<ContentId>) {
    let mut world = World::new(CLONES[0].into());
    world.run(events).unwrap();
    let has = world.modules.swap_remove(module);
    (has.contents, has.length, world.counts, world.contents)
}

// Case 24.
#[test]
fn a_resume_a_day_after_the_cut_is_refused_however_long_the_new_release_has_stood() {
    use Event::*;
    let events = [Begin(0), Cut(0), Day, Release, Hour, Hour, Resume(0)];
    let (contents, length, counts, all) = after(&events, 0);
    assert_eq!((contents, length), (vec![all[0]], RECEIVED));
    assert_eq!((counts.resumed, counts.refused), (0, 1));
    // Within the day it goes on with what it began with.
    let events = [Begin(0), Cut(0), Hour, Release, Hour, Hour, Resume(0)];
    let (contents, length, counts, all) = after(&events, 0);
    assert_eq!((contents, length), (vec![all[0]], 2 * RECEIVED));
    assert_eq!((counts.resumed, counts.refused), (1, 0));
}

// Case 25.
#[test]
fn a_resume_after_the_state_was_lost_is_refused_however_long_the_server_has_run() {
    use Event::*;
    for module in [0, 3] {
        let events = [Begin(module), Release, Loss, Hour, Hour, Resume(module)];
        let (_, length, counts, _) = after(&events, module);
        assert_eq!(length, RECEIVED);
        assert_eq!((counts.resumed, counts.refused), (0, 1));
    }
}

// Case 26.
#[test]
fn a_module_without_an_id_goes_on_until_its_address_begins_another_file() {
    use Event::*;
    let events = [
        Begin(3),
        Cut(3),
        Restart,
        Release,
        Resume(3),
        Begin(4),
        Resume(3),
    ];
    let (contents, length, counts, all) = after(&events, 3);
    // What it has is longer than what the neighbour was sent of the other file, and then it is not.
    assert_eq!((contents, length), (vec![all[0]], 2 * RECEIVED));
    assert_eq!((counts.resumed, counts.refused), (1, 1));
}
