use super::*;
use crate::modems::first_edition::{Dialect, FirstEdition};
use crate::modems::luatask::{Generation, LuaTask};
use crate::modems::{Endpoint, Identity};
use smol::block_on;
use std::net::{TcpListener, UdpSocket};

fn identity() -> Identity {
    Identity {
        imei: "862991443753386".into(),
        project: "P".into(),
        version: "1.0.0".into(),
        core: 35,
        bsp: None,
        key: "k".into(),
        serial: String::new(),
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".into(),
        port,
        path: "/u".into(),
    }
}

fn play_over_udp(port: u16, settings: &Settings) -> Played {
    let server = endpoint(port);
    let mut client = FirstEdition::new(&identity(), &server, Dialect::UserServer, true);
    block_on(play(&mut client, settings))
}

#[test]
fn a_silent_server_costs_minutes_on_the_module_clock_and_only_seconds_of_real_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let settings = Settings::probing(Duration::from_millis(200));
    let played = play_over_udp(silent.local_addr().unwrap().port(), &settings);
    assert!(matches!(
        played.outcome,
        Outcome::Failed(Failure::Hung { after, .. }) if after >= Duration::from_secs(50)
    ));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(played.exchanges.len(), 1);
    assert_eq!(played.exchanges[0].end, End::Open);
}

#[test]
fn the_fleets_clock_runs_faster_but_does_not_jump() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        quiet: None,
        speed: 100,
        ..Settings::probing(Duration::ZERO)
    };
    let begun = Instant::now();
    let played = play_over_udp(silent.local_addr().unwrap().port(), &settings);
    assert!(played.duration >= Duration::from_secs(50));
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

#[test]
fn an_attempt_that_takes_too_long_is_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = endpoint(listener.local_addr().unwrap().port());
    let settings = Settings {
        quiet: None,
        cap: Duration::from_millis(100),
        ..Settings::probing(Duration::ZERO)
    };
    let mut client = LuaTask::new(
        &identity(),
        &server,
        Generation::Rda8910,
        Default::default(),
    );
    let played = block_on(play(&mut client, &settings));
    let Outcome::Failed(Failure::Hung { waiting_for, .. }) = played.outcome else {
        panic!("{:?}", played.outcome);
    };
    assert!(waiting_for.contains("stopped"), "{waiting_for}");
}

#[test]
fn a_fleet_contacts_no_host_that_was_not_named() {
    let settings = Settings {
        only_names: true,
        ..Settings::probing(Duration::from_millis(50))
    };
    let played = play_over_udp(9, &settings);
    let why = played.exchanges.last().map(|exchange| exchange.end.clone());
    let Some(End::NotConnected(why)) = why else {
        panic!("{why:?}");
    };
    assert!(why.contains("was not named"), "{why}");
}

#[test]
fn a_name_is_looked_up_and_an_address_is_not() {
    assert_eq!(resolve("[::1]", 1).unwrap().to_string(), "::1");
    assert_eq!(resolve("10.1.2.3", 1).unwrap().to_string(), "10.1.2.3");
}
