//! Deliberately bad servers during a download.

use super::*;

#[test]
fn each_fault_of_a_server_during_a_download_has_its_outcome() {
    type Modify = fn(usize, usize, Vec<u8>) -> Vec<ServerAction>;
    // Columns: rule; size of the file; behaviour of the server; verdict; seconds (Lua, then C).
    let rows: &[(&str, usize, Modify, &str, u64, u64)] = &[
        (
            "6: silence = 5 tries 10 s apart (50 s), C client 3 x 30 s",
            100,
            |_, _, _| vec![],
            "hung",
            50,
            90,
        ),
        (
            "6: last=0 at a multiple of 1022: the last packet is refused 5x and the file deleted",
            2 * DATA,
            |number, _, right| match number {
                0 => vec![ServerAction::Recv(b"LUAUPDATE,5,2,0".to_vec())],
                _ => vec![ServerAction::Recv(right)],
            },
            "gave up",
            50,
            90,
        ),
        (
            "6: size multiple of 1022 -> last=1022",
            2 * DATA,
            |_, _, right| vec![ServerAction::Recv(right)],
            "updated",
            0,
            0,
        ),
        (
            "6: duplicated datagrams are harmless",
            3 * DATA + 5,
            |_, _, right| vec![ServerAction::Recv(right.clone()), ServerAction::Recv(right)],
            "updated",
            0,
            0,
        ),
        (
            "6: a lost one costs 10 s (C: 30 s)",
            3 * DATA + 5,
            |number, before, right| match (number, before) {
                (2, 0) => vec![],
                _ => vec![ServerAction::Recv(right)],
            },
            "updated",
            10,
            30,
        ),
        (
            "6: 5 tries per packet, counter reset by each good packet",
            3 * DATA + 5,
            |number, before, right| match (number, before) {
                (1..=3, 0..=1) => vec![],
                _ => vec![ServerAction::Recv(right)],
            },
            "updated",
            60,
            180,
        ),
        (
            "6: reordered: an old packet before the right one is passed over",
            3 * DATA + 5,
            |number, before, right| match (number, before) {
                (3, 0) => {
                    let mut old = right.clone();
                    old[1] = 2;
                    vec![
                        ServerAction::Recv(old),
                        ServerAction::Wait(Duration::from_secs(1)),
                        ServerAction::Recv(right),
                    ]
                }
                _ => vec![ServerAction::Recv(right)],
            },
            "updated",
            1,
            1,
        ),
        (
            "6: number LITTLE-endian is another number",
            2 * DATA,
            |number, _, mut right| {
                if number > 0 {
                    right.swap(0, 1);
                }
                vec![ServerAction::Recv(right)]
            },
            "gave up",
            50,
            90,
        ),
        (
            "6: packets counted from 0",
            2 * DATA,
            |number, _, mut right| {
                if number > 0 {
                    right[1] -= 1;
                }
                vec![ServerAction::Recv(right)]
            },
            "gave up",
            50,
            90,
        ),
        (
            "6: 1023-byte packets fail",
            2 * DATA + 1,
            |number, _, mut right| {
                if number > 0 {
                    right.truncate(1023);
                }
                vec![ServerAction::Recv(right)]
            },
            "gave up",
            50,
            90,
        ),
        (
            "6: 1025-byte packets fail (the length is ==)",
            2 * DATA + 1,
            |number, _, mut right| {
                if number == 1 {
                    right.push(0);
                }
                vec![ServerAction::Recv(right)]
            },
            "gave up",
            50,
            90,
        ),
        (
            "6: ERR (exactly) = abort at once",
            2 * DATA,
            |number, _, right| match number {
                2 => vec![ServerAction::Recv(b"ERR".to_vec())],
                _ => vec![ServerAction::Recv(right)],
            },
            "gave up",
            0,
            0,
        ),
        (
            "6: other texts only cost 50 s",
            2 * DATA,
            |number, _, right| match number {
                2 => vec![ServerAction::Recv(b"ERR\r\n".to_vec())],
                _ => vec![ServerAction::Recv(right)],
            },
            "gave up",
            50,
            90,
        ),
        (
            "6: another text once costs 10 s",
            2 * DATA,
            |number, before, right| match (number, before) {
                (2, 0) => vec![ServerAction::Recv(b"wait".to_vec())],
                _ => vec![ServerAction::Recv(right)],
            },
            "updated",
            10,
            30,
        ),
    ];
    for (clause, size, modify, expected, lua, c) in rows {
        let file = image(*size);
        for dialect in [Dialect::UserServer, Dialect::Official, Dialect::OfficialC] {
            for datagrams in [true, false] {
                let played = played(dialect, datagrams, &file, modify);
                assert_eq!(verdict(&played.outcome), *expected, "{clause} {dialect:?}");
                let time = if dialect == Dialect::OfficialC {
                    c
                } else {
                    lua
                };
                assert_eq!(played.at, seconds(*time), "{clause} {dialect:?}");
                if let Outcome::Updated(bytes) = played.outcome {
                    assert_eq!(bytes, file, "{clause}");
                }
            }
        }
    }
}
