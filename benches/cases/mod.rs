//! The cases that `cargo bench` measures in nanoseconds and benches/instructions.sh in instructions: each step of a
//! check or a packet in the server's own code, with input that modules really send.

use luat_ota::decision::{Check, Known, Notes, Question, Refusal, Verdict, decide};
use luat_ota::device::upgrade_id::UpgradeIds;
use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::{DeviceId, DeviceSet};
use luat_ota::firmware::catalog::{Catalog, ScanResult, ScannedFile, ScannedRules};
use luat_ota::firmware::package::{Inspected, PackageKind};
use luat_ota::firmware::rules::Rules;
use luat_ota::fleet::network::Network;
use luat_ota::os::fs::FileStamp;
use luat_ota::wire::head::{self, HeadLimits, HeadProgress};
use luat_ota::wire::http_target::{HttpTarget, http_target};
use luat_ota::wire::{dialects::datagram, reply};
use std::borrow::Cow;
use std::hint::black_box;

/// The head of a check by a LuaTask module (docs/protocol.md 1), as it arrives.
const HEAD: &[u8] = b"GET /luat/update?project_key=kTW8QY3gZlQ0TZr5yZUN4fJ6ftoFHK2T&imei=862991443753386&device_key=\
    &firmware_name=ALIYUN_Luat_V0017_ASR1802&version=2.0.0&need_oss_url=0 HTTP/1.1\r\n\
    Host: ota.example.com:8080\r\nConnection: short\r\nAccept: */*\r\nRange: bytes=0-\r\n\r\n";

const IMEI: &str = "862991443753386";

/// A step that is repeated.
pub type Step = Box<dyn FnMut()>;

/// Name of a case, and the function that prepares its step.
pub type Case = (&'static str, fn() -> Step);

/// All cases.
pub const CASES: &[Case] = &[
    ("head", head),
    ("query", query),
    ("decide_nothing_newer", decide_nothing_newer),
    ("decide_offer", decide_offer),
    ("decide_among_many", decide_among_many),
    ("refusal", refusal),
    ("check", check),
    ("datagram_get", datagram_get),
    ("datagram_check", datagram_check),
    ("upgrade_id", upgrade_id),
    ("imei_ranges", imei_ranges),
    ("log_line", log_line),
];

fn limits() -> HeadLimits {
    HeadLimits {
        bytes: 8192,
        headers: 64,
    }
}

fn parse_head(bytes: &[u8]) -> head::Head<'_> {
    match head::read(bytes, limits()) {
        HeadProgress::Complete(head, _) => head,
        other => panic!("{other:?}"),
    }
}

fn parse_check(target: &[u8]) -> Check<'_> {
    match http_target(target) {
        HttpTarget::Check(check) => check,
        other => panic!("{other:?}"),
    }
}

fn scanned_file(path: String, number: u64) -> ScannedFile {
    let mut content = [0x5a; 32];
    let (beginning, _) = content.split_at_mut(8);
    beginning.copy_from_slice(&number.to_be_bytes());
    ScannedFile {
        path,
        stamp: FileStamp {
            dev: 1,
            ino: number,
            size: 40,
            mtime: 0,
            ctime: 0,
        },
        inspected: Inspected {
            content: ContentId(content),
            md5: [0; 16],
            size: 40,
            kind: PackageKind::Generic,
        },
    }
}

/// A catalogue with one project, ALIYUN, with one release.
fn small_catalog() -> Catalog {
    let files = vec![scanned_file("ALIYUN/2.0.0/update.bin".to_owned(), 1)];
    let found = ScanResult {
        files,
        ..ScanResult::default()
    };
    Catalog::build(found)
}

/// A catalogue with 100 projects of 100 releases each, and ALIYUN, whose newest release allows 100,000 ranges of IMEIs.
fn large_catalog() -> Catalog {
    let mut files = Vec::new();
    for project in 0..100 {
        for version in 1..=100 {
            let path = format!("P{project}/1.0.{version}/update.bin");
            files.push(scanned_file(path, project * 1000 + version));
        }
    }
    files.push(scanned_file(
        "ALIYUN/2.0.1/update.bin".to_owned(),
        1_000_000,
    ));
    let rules = Rules {
        allow: Some(hundred_thousand_ranges()),
        ..Rules::default()
    };
    let found = ScanResult {
        files,
        rules: vec![ScannedRules {
            path: "ALIYUN/2.0.1/release.json".to_owned(),
            rules: Some(rules.into()),
            error: None,
        }],
        ..ScanResult::default()
    };
    Catalog::build(found)
}

fn hundred_thousand_ranges() -> DeviceSet {
    let first = 862_000_000_000_000_u64;
    let ranges: Vec<String> = (0..100_000)
        .map(|n| first + n * 10)
        .map(|first| format!("{first}-{}", first + 4))
        .collect();
    DeviceSet::parse(ranges.iter().map(String::as_str)).expect("ranges")
}

fn verdict<'c>(catalog: &'c Catalog, check: &Check<'_>) -> Verdict<'c> {
    let question = Question {
        catalog,
        known: Known::default(),
        check,
        unix: 1_795_420_800,
    };
    decide(&question, &mut Notes::off())
}

fn assert_refused(verdict: &Verdict<'_>, expected: Refusal) {
    match verdict {
        Verdict::Refuse(refused) if refused.refusal == expected => {}
        other => panic!("{other:?}"),
    }
}

fn head() -> Step {
    Box::new(|| {
        black_box(head::read(black_box(HEAD), limits()));
    })
}

fn query() -> Step {
    let target = parse_head(HEAD).target;
    Box::new(move || {
        black_box(http_target(black_box(target)));
    })
}

fn decide_nothing_newer() -> Step {
    let (catalog, check) = (small_catalog(), parse_check(parse_head(HEAD).target));
    assert_refused(&verdict(&catalog, &check), Refusal::NothingNewer);
    Box::new(move || {
        black_box(verdict(&catalog, black_box(&check)));
    })
}

fn decide_offer() -> Step {
    let (catalog, mut check) = (small_catalog(), parse_check(parse_head(HEAD).target));
    check.version = Cow::Borrowed("1.9.9");
    assert!(matches!(verdict(&catalog, &check), Verdict::Offer(_)));
    Box::new(move || {
        black_box(verdict(&catalog, black_box(&check)));
    })
}

fn decide_among_many() -> Step {
    let (catalog, check) = (large_catalog(), parse_check(parse_head(HEAD).target));
    assert_refused(&verdict(&catalog, &check), Refusal::NotThisDevice);
    Box::new(move || {
        black_box(verdict(&catalog, black_box(&check)));
    })
}

fn refusal() -> Step {
    Box::new(|| {
        black_box(reply::refusal(black_box(Refusal::NothingNewer), false));
    })
}

/// A whole check, from the bytes of its head to the bytes of the refusal, without the log.
fn check() -> Step {
    let catalog = small_catalog();
    Box::new(move || {
        let check = parse_check(parse_head(black_box(HEAD)).target);
        if let Verdict::Refuse(refused) = verdict(&catalog, &check) {
            black_box(reply::refusal(refused.refusal, false));
        }
    })
}

fn datagram_get() -> Step {
    Box::new(|| {
        black_box(datagram::parse(black_box(b"Get4105,1431655765")));
    })
}

fn datagram_check() -> Step {
    Box::new(|| {
        let message = b"862991443753386,USER_SERVER_UPDATE_Luat_V0035_8955,1.0.0";
        black_box(datagram::parse(black_box(message)));
    })
}

/// Lookup of the content that the id of a GetN names.
fn upgrade_id() -> Step {
    let ids = UpgradeIds::new(&[7; 32], false);
    let (content, network) = (ContentId([0x5a; 32]), Network::V4([192, 0, 2]));
    let unix = 1_795_420_800;
    let id = ids.make(content, network, unix);
    let candidates = std::iter::once(content);
    ids.find(id, network, unix, candidates).expect("it is good");
    Box::new(move || {
        black_box(ids.known(black_box(id), network, unix));
    })
}

fn imei_ranges() -> Step {
    let set = hundred_thousand_ranges();
    let device = DeviceId::parse(IMEI).expect("an IMEI");
    Box::new(move || {
        black_box(set.contains(black_box(device)));
    })
}

/// The log line of a check. Another thread writes the lines, and lines are dropped while its buffer is full, so it is
/// flushed after every hundredth line.
fn log_line() -> Step {
    luat_ota::logging::start(luat_ota::logging::Format::Text, log::LevelFilter::Info);
    let peer: std::net::SocketAddr = ([192, 0, 2, 7], 1025).into();
    let mut lines = 0_u32;
    Box::new(move || {
        log::info!(
            target: "check",
            proto = "http",
            device = IMEI,
            project = "ALIYUN",
            from = "2.0.0",
            to = "",
            verdict = "refuse",
            reason = "nothing newer",
            peer:% = peer;
            ""
        );
        lines = lines.wrapping_add(1);
        if lines.is_multiple_of(100) {
            luat_ota::logging::flush();
        }
    })
}
