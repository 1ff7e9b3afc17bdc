use super::*;
use Permission::{Public, Read, Write};

const TOKEN: &str = "0123456789abcdef";

const READ_TOKEN: &str = "fedcba9876543210";

fn local() -> Access {
    Access::new(
        TOKEN,
        Some(READ_TOKEN),
        &["ota.example.com".to_owned()],
        "127.0.0.1:8081".parse().unwrap(),
    )
}

fn public() -> Access {
    Access::new(TOKEN, None, &[], "0.0.0.0:8081".parse().unwrap())
}

/// Returns the decision without the name of the token.
fn authorised(access: &Access, permission: Permission, of: &Credentials<'_>) -> Result<(), Denied> {
    access.authorise(permission, of).map(drop)
}

fn at(host: &str) -> Credentials<'_> {
    Credentials {
        host,
        ..Credentials::default()
    }
}

fn with_token(host: &str) -> Credentials<'_> {
    Credentials {
        authorization: Some("Bearer 0123456789abcdef"),
        ..at(host)
    }
}

#[test]
fn only_hosts_that_name_this_server_are_accepted() {
    for (host, access, read) in [
        ("127.0.0.1:8081", local(), Err(Denied::NoToken)),
        ("127.0.0.1", local(), Err(Denied::NoToken)),
        ("127.0.0.9:8081", local(), Err(Denied::NoToken)),
        ("localhost:8081", local(), Err(Denied::NoToken)),
        ("LocalHost", local(), Err(Denied::NoToken)),
        ("[::1]:8081", local(), Err(Denied::NoToken)),
        ("[::1]", local(), Err(Denied::NoToken)),
        ("localhost:8080", local(), Err(Denied::UnknownHost)),
        ("localhost.:8081", local(), Err(Denied::UnknownHost)),
        ("localhost.evil.example", local(), Err(Denied::UnknownHost)),
        ("evil.example:8081", local(), Err(Denied::UnknownHost)),
        ("192.168.1.1:8081", local(), Err(Denied::UnknownHost)),
        ("ota.example.com", local(), Err(Denied::NoToken)),
        ("OTA.example.com:443", local(), Err(Denied::NoToken)),
        ("192.168.1.1:8081", public(), Err(Denied::NoToken)),
        ("localhost:8081", public(), Err(Denied::NoToken)),
        ("router.lan:8081", public(), Err(Denied::UnknownHost)),
        ("", local(), Err(Denied::BadHost)),
        ("evil/x?", local(), Err(Denied::BadHost)),
        ("user@localhost", local(), Err(Denied::BadHost)),
        ("localhost:", local(), Err(Denied::BadHost)),
        ("localhost:+8081", local(), Err(Denied::BadHost)),
        ("localhost:99999", local(), Err(Denied::BadHost)),
        ("[::1", local(), Err(Denied::BadHost)),
        ("[::1]x", local(), Err(Denied::BadHost)),
        ("::1", local(), Err(Denied::BadHost)),
        ("a b", local(), Err(Denied::BadHost)),
        ("a,b", local(), Err(Denied::BadHost)),
    ] {
        assert_eq!(authorised(&access, Read, &at(host)), read, "{host}");
    }
}

#[test]
fn everything_but_the_page_needs_a_token_and_changes_the_operator_token() {
    let reading = |host| Credentials {
        authorization: Some("Bearer fedcba9876543210"),
        ..at(host)
    };
    let wrong = |host| Credentials {
        authorization: Some("Bearer 0123456789abcdeX"),
        ..at(host)
    };
    for (permission, credentials, answer) in [
        (Public, at("localhost"), Ok(())),
        (Public, at("ota.example.com"), Ok(())),
        (Public, wrong("localhost"), Ok(())),
        (Public, at("evil.example"), Err(Denied::UnknownHost)),
        (Read, at("localhost"), Err(Denied::NoToken)),
        (Read, wrong("localhost"), Err(Denied::WrongToken)),
        (Read, reading("localhost"), Ok(())),
        (Read, reading("ota.example.com"), Ok(())),
        (Read, with_token("localhost"), Ok(())),
        (Read, with_token("ota.example.com"), Ok(())),
        (Write, at("localhost"), Err(Denied::NoToken)),
        (Write, wrong("localhost"), Err(Denied::WrongToken)),
        (Write, reading("localhost"), Err(Denied::ReadOnly)),
        (Write, with_token("localhost"), Ok(())),
        (Write, with_token("ota.example.com"), Ok(())),
        (Write, with_token("evil.example"), Err(Denied::UnknownHost)),
        (Read, reading("evil.example"), Err(Denied::UnknownHost)),
    ] {
        let authorised = authorised(&local(), permission, &credentials);
        assert_eq!(authorised, answer, "{permission:?} {credentials:?}");
    }
    // Without a read token, an empty token matches nothing.
    let empty = Credentials {
        authorization: Some("Bearer "),
        ..at("localhost:8081")
    };
    assert_eq!(authorised(&public(), Read, &empty), Err(Denied::WrongToken));
}

#[test]
fn only_the_servers_own_page_may_send_requests_through_a_browser() {
    let from = |host, origin, site| Credentials {
        origin,
        site,
        ..with_token(host)
    };
    let (ours, theirs) = (Ok(()), Err(Denied::OtherSite));
    for (host, origin, site, answer) in [
        ("localhost:8081", Some("http://localhost:8081"), None, ours),
        ("localhost:8081", Some("http://127.0.0.1:8081"), None, ours),
        (
            "localhost:8081",
            Some("http://localhost:3000"),
            None,
            theirs,
        ),
        ("localhost:8081", Some("http://localhost"), None, theirs),
        ("localhost:8081", Some("http://evil.example"), None, theirs),
        ("localhost:8081", Some("null"), None, theirs),
        ("localhost:8081", Some(""), None, theirs),
        (
            "localhost:8081",
            Some("file://localhost:8081"),
            None,
            theirs,
        ),
        (
            "ota.example.com",
            Some("https://ota.example.com"),
            Some("same-origin"),
            ours,
        ),
        (
            "ota.example.com:8443",
            Some("https://ota.example.com:8443"),
            None,
            ours,
        ),
        (
            "ota.example.com",
            Some("https://ota.example.com:8443"),
            None,
            theirs,
        ),
        (
            "ota.example.com",
            Some("https://ota.example.com.evil"),
            None,
            theirs,
        ),
        ("localhost:8081", None, Some("none"), ours),
        ("localhost:8081", None, Some("same-site"), theirs),
        ("localhost:8081", None, Some("cross-site"), theirs),
    ] {
        for permission in [Read, Write] {
            let authorised = authorised(&local(), permission, &from(host, origin, site));
            assert_eq!(
                authorised, answer,
                "{permission:?} {host} {origin:?} {site:?}"
            );
        }
        let page = authorised(&local(), Public, &from(host, origin, site));
        assert_eq!(page, Ok(()), "a link from elsewhere leads to the page");
    }
}

#[test]
fn a_token_must_match_completely() {
    let access = local();
    for (said, known) in [
        ("Bearer 0123456789abcdef", true),
        ("bearer 0123456789abcdef", true),
        ("Bearer  0123456789abcdef", true),
        ("Bearer 0123456789abcdeF", false),
        ("Bearer 0123456789abcde", false),
        ("Bearer 0123456789abcdef0", false),
        ("Bearer ", false),
        ("Bearer", false),
        ("", false),
        ("Basic 0123456789abcdef", false),
        ("0123456789abcdef", false),
    ] {
        let credentials = Credentials {
            authorization: Some(said),
            ..at("localhost")
        };
        let authorised = access.authorise(Write, &credentials);
        assert_eq!(authorised.is_ok(), known, "{said:?}");
    }
}

#[test]
fn tokens_can_be_sent_in_a_header() {
    assert!(is_token(TOKEN));
    for text in [
        "",
        "short",
        "with a space in it",
        "n\u{f6}n-ascii-token",
        &"x".repeat(257),
    ] {
        assert!(!is_token(text), "{text:?}");
    }
}

#[test]
fn each_token_has_its_name_and_a_reader_changes_nothing() {
    let access = local();
    let named = |name: &str, text: &str, is_reader| NamedToken {
        name: name.to_owned(),
        text: text.to_owned(),
        is_reader,
    };
    let judge = |permission, token: &str| {
        let authorization = format!("Bearer {token}");
        let credentials = Credentials {
            authorization: Some(&authorization),
            ..at("localhost")
        };
        access
            .authorise(permission, &credentials)
            .map(|name| name.to_string())
    };
    let (alice, bob) = ("token-of-alice", "token-of-bob");
    assert_eq!(judge(Read, alice), Err(Denied::WrongToken));
    access.set_named(&[named("alice", alice, false), named("bob", bob, true)]);
    for (permission, token, answer) in [
        (Write, alice, Ok("alice")),
        (Read, alice, Ok("alice")),
        (Read, bob, Ok("bob")),
        (Write, bob, Err(Denied::ReadOnly)),
        (Write, TOKEN, Ok("operator")),
        (Read, READ_TOKEN, Ok("read")),
        (Write, READ_TOKEN, Err(Denied::ReadOnly)),
        (Read, "token-of-carol", Err(Denied::WrongToken)),
    ] {
        let answer = answer.map(str::to_owned);
        assert_eq!(judge(permission, token), answer, "{permission:?} {token}");
    }
    // A token that was removed from the file is not valid any more.
    access.set_named(&[named("bob", bob, false)]);
    assert_eq!(judge(Write, alice), Err(Denied::WrongToken));
    assert_eq!(judge(Write, bob), Ok("bob".to_owned()));
}
