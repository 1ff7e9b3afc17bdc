use super::*;

fn texts() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[0-9A-Za-z_.-]{1,20}", "\\PC{0,12}", "[\\x00-\\x7f]{0,12}"]
        .prop_map(String::into_boxed_str)
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (0..=NOW.0).prop_map(Stamp)
}

fn ids() -> impl Strategy<Value = (DeviceId, Box<str>)> {
    prop_oneof!["[0-9]{14,17}", "[0-9a-fA-F]{12}", "[0-9A-Za-z_-]{1,64}"]
        .prop_filter_map("what stands for no id", |text| {
            Some((DeviceId::parse(&text)?, text.into_boxed_str()))
        })
}

fn networks() -> impl Strategy<Value = Network> {
    prop_oneof![
        any::<[u8; 3]>().prop_map(Network::V4),
        // Not an IPv4-mapped address, which would be read as IPv4.
        any::<[u8; 6]>().prop_map(|[_, b, c, d, e, f]| Network::V6([0x20, b, c, d, e, f])),
    ]
}

fn contents() -> impl Strategy<Value = ContentId> {
    any::<[u8; 32]>().prop_map(ContentId)
}

fn downloaders() -> impl Strategy<Value = IdentityHash> {
    any::<u64>().prop_map(IdentityHash)
}

fn progresses() -> impl Strategy<Value = ProgressEntry> {
    (
        (texts(), texts(), texts(), contents()),
        (any::<u64>(), 0..State::ALL.len(), stamps(), any::<u64>()),
        (0..4u8, 0..4u8, any::<bool>()),
    )
        .prop_map(
            |(
                (project, version, from, content),
                (size, state, since, reached),
                (outcome, weak, by_proxy),
            )| ProgressEntry {
                project: project.into(),
                version: version.into(),
                content,
                size,
                state: State::ALL[state],
                since,
                reached,
                outcome: [
                    None,
                    Some(Outcome::Confirmed),
                    Some(Outcome::Reverted),
                    Some(Outcome::FellBack),
                ][usize::from(outcome)],
                weak,
                by_proxy,
                from: from.into(),
            },
        )
}

fn profiles() -> impl Strategy<Value = Profile<'static>> {
    let text = || proptest::option::of(texts().prop_map(|text| Cow::Owned(text.into_string())));
    let name = texts().prop_map(|text| Some(Cow::Owned(text.into_string())));
    (
        name,
        text(),
        text(),
        any::<(Option<u32>, bool, Option<u64>)>(),
    )
        .prop_map(
            |(firmware_name, path_project, project_key, (core_version, need_oss_url, largest))| {
                Profile {
                    firmware_name,
                    path_project,
                    core_version,
                    project_key,
                    need_oss_url,
                    largest,
                }
            },
        )
}

fn confirmed() -> impl Strategy<Value = Vec<(Rc<str>, Rc<str>)>> {
    let release = ("[A-Z_]{1,5}", "[0-9.]{1,5}");
    let release = release.prop_map(|(project, version)| (project.into(), version.into()));
    proptest::collection::vec(release, 0..4)
}

pub(super) fn devices() -> impl Strategy<Value = JournalEntry> {
    (
        (ids(), texts(), texts(), stamps(), stamps()),
        (any::<u32>(), proptest::option::of(networks())),
        proptest::option::of(progresses()),
        (proptest::option::of(profiles()), confirmed()),
    )
        .prop_map(
            |(
                ((device, text), project, version, first, last),
                (interval, network),
                progress,
                (profile, confirmed),
            )| {
                JournalEntry::Device(DeviceEntry {
                    device,
                    text,
                    project: project.into(),
                    version: version.into(),
                    first,
                    last,
                    interval,
                    network,
                    profile: profile.map(Rc::new),
                    confirmed,
                    progress,
                })
            },
        )
}

fn guards() -> impl Strategy<Value = JournalEntry> {
    (
        (ids(), downloaders(), any::<u64>(), contents(), any::<u64>()),
        (any::<u32>(), any::<u32>(), any::<u64>(), any::<u32>()),
        (
            proptest::option::of((0..NOW.0 + 86_400).prop_map(Stamp)),
            proptest::option::of(stamps()),
            stamps(),
        ),
        (
            (any::<bool>(), any::<bool>(), any::<u64>()),
            proptest::option::of(stamps()),
            proptest::option::of(stamps()),
            proptest::collection::vec((stamps(), any::<bool>()), 0..10),
            (texts(), texts()),
        ),
    )
        .prop_map(
            |(
                ((device, _), identity_without_version, coarse_network, content, version),
                (reverts, redirects, sent, level),
                (held_until, delivered, used),
                ((by_proxy, reverted, before), redirected, confirmed, rounds, (from, to)),
            )| {
                JournalEntry::Guard(GuardEntry {
                    device,
                    identity_without_version,
                    coarse_network: CoarseNetwork(coarse_network),
                    content,
                    version,
                    reverts,
                    redirects,
                    sent,
                    level,
                    held_until,
                    delivered,
                    by_proxy,
                    redirected,
                    confirmed,
                    reverted,
                    rounds: rounds
                        .into_iter()
                        .map(|(at, weak)| Round { at, weak })
                        .collect(),
                    from,
                    to,
                    before,
                    used,
                })
            },
        )
}

pub(super) fn entries() -> impl Strategy<Value = JournalEntry> {
    prop_oneof![
        devices(),
        guards(),
        ids().prop_map(|(device, _)| JournalEntry::Forgotten(device)),
        (
            (any::<u64>(), any::<u64>()),
            contents(),
            stamps(),
            any::<u64>(),
            any::<u8>()
        )
            .prop_map(|((owner, statement), content, used, reach, worth)| {
                JournalEntry::Pin(PinEntry {
                    owner: PinKey(owner),
                    statement,
                    content,
                    used,
                    reach,
                    worth,
                })
            }),
        any::<u64>().prop_map(|owner| JournalEntry::Unpinned(PinKey(owner))),
        (downloaders(), any::<u64>()).prop_map(|(identity_without_version, coarse_network)| {
            JournalEntry::Unguarded(identity_without_version, CoarseNetwork(coarse_network))
        }),
        (
            (texts(), texts(), contents()),
            0..=10_000u16,
            stamps(),
            any::<u32>()
        )
            .prop_map(|((project, version, content), reached, since, confirmed)| {
                JournalEntry::Stage(StageEntry {
                    project,
                    version,
                    content,
                    reached,
                    since,
                    confirmed,
                })
            }),
        (
            texts(),
            texts(),
            stamps(),
            proptest::option::of(texts()),
            proptest::option::of(any::<[u8; 32]>()),
            proptest::option::of(stamps()),
            any::<u32>(),
            [
                proptest::option::of(stamps()),
                proptest::option::of(stamps())
            ],
            (texts(), texts())
        )
            .prop_map(
                |(project, version, first, fused, before, resumed, confirmed, noticed, by)| {
                    let [first_confirmed, too_many_silent] = noticed;
                    JournalEntry::Release(ReleaseEntry {
                        before: before.map(ContentId),
                        project,
                        version,
                        first,
                        fused,
                        resumed,
                        confirmed,
                        noticed: Noticed {
                            first_confirmed,
                            too_many_silent,
                        },
                        authors: Authors {
                            published: by.0,
                            paused: by.1,
                        },
                    })
                }
            ),
        samples(),
        (
            any::<u64>(),
            any::<i64>(),
            [texts(), texts(), texts(), texts(), texts()]
        )
            .prop_map(|(serial, unix, [by, action, project, version, detail])| {
                JournalEntry::Change(ChangeEntry {
                    serial,
                    unix,
                    by,
                    action,
                    project,
                    version,
                    detail,
                })
            }),
    ]
}

fn samples() -> impl Strategy<Value = JournalEntry> {
    let counts = proptest::collection::vec(any::<u32>(), 1..20);
    let change = (texts(), texts(), counts);
    let change = change.prop_map(|(project, version, counts)| SampleChange {
        project,
        version,
        counts,
    });
    let number = (0..u32::MAX / 86_400, any::<bool>());
    (number, proptest::option::of(change)).prop_map(|((number, is_day), change)| {
        JournalEntry::Sample(SampleEntry {
            number,
            is_day,
            change,
        })
    })
}

proptest! {
    #[test]
    fn every_entry_is_read_as_it_was_written(entry in entries(), unix in prop_oneof![Just(0_i64), Just(UNIX)]) {
        let mut text = String::new();
        line::write_entry(&mut text, Wall { stamp: NOW, unix }, NOW, &entry);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert_eq!(text.matches("{\"").count(), 1, "{}", &text);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let line = line::intact_text(text.trim_end_matches('\n').as_bytes()).unwrap();
        let time = LineTime { stamp: NOW, unix };
        prop_assert_eq!(decode(parse(line, time), &mut Commons::default()), DecodedLine::Entry(entry));
    }
}

#[test]
fn pins_of_version_0_1_0_are_read_with_unlimited_reach() {
    let line = |kind: &str| {
        with_checksum(&format!(
            "{{\"{kind}\":\"00000000000000a7\",\"network\":\"192.0.2.0/24\",\"content\":\"{A}\",\
             \"used\":{UNIX},\"complete\":true,\"at\":{UNIX}"
        ))
    };
    let mut text = text_of(&[]);
    text += &line("pin");
    // The end of the pin for one network does not mean that the device no longer has these bytes.
    text += &line("unpinned");
    let (loaded, entries) = read(text.as_bytes());
    assert_eq!(loaded.damaged, 0);
    let pin = PinEntry {
        owner: PinKey(0xa7),
        statement: 0xa7,
        content: A,
        used: NOW,
        reach: u64::MAX,
        worth: crate::fleet::pins::PinWorth::Established as u8,
    };
    assert_eq!(entries, [JournalEntry::Pin(pin)]);
}
