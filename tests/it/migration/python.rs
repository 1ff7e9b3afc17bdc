//! Environment of the Python server of the article of 2018 and its MySQL: small substitutes for gevent, SQLAlchemy
//! and the `mysql` command that use one SQLite file, so that the server runs unmodified except for its port.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::common::Place;
use super::executable;

/// `mysql -NB DATABASE -e SQL` on the SQLite file next to it.
const MYSQL: &str = r#"#!/usr/bin/env python3
import os, re, sqlite3, sys
db = sqlite3.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "database"))
db.create_function("CONCAT", -1, lambda *parts: "".join(map(str, parts)))
sql = re.sub(r"^\s*SET SESSION [^;]*;", "", sys.argv[sys.argv.index("-e") + 1])
for row in db.execute(sql):
    print("\t".join("NULL" if value is None else str(value) for value in row))
"#;

/// gevent's UDP server, which handles one datagram at a time and prints its address.
const GEVENT_SERVER: &str = r#"
import socket
class DatagramServer:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", int(address.rsplit(":", 1)[1])))
        print(self.socket.getsockname()[1], flush=True)
    def serve_forever(self):
        while True:
            self.handle(*self.socket.recvfrom(65536))
"#;

/// The subset of SQLAlchemy that the server uses.
const SQLALCHEMY: &str = "def text(sql): return sql\ndef create_engine(*a, **k): return None\n";
const SQLALCHEMY_ORM: &str = r#"
import os, sqlite3
class Row:
    def __init__(self, row): self.__dict__.update({key: row[key] for key in row.keys()})
    def __getitem__(self, key): return self.__dict__[key]
class Result:
    def __init__(self, cursor): self.cursor = cursor
    def fetchone(self):
        row = self.cursor.fetchone()
        return None if row is None else Row(row)
    def fetchall(self): return [Row(row) for row in self.cursor.fetchall()]
class Session:
    def __init__(self):
        self.db = sqlite3.connect(":memory:")
        self.db.row_factory = sqlite3.Row
        self.db.execute("ATTACH DATABASE ? AS device_framework_upgrade", (os.environ["DATABASE"],))
    def execute(self, sql, parameters): return Result(self.db.execute(sql, parameters))
    def close(self): self.db.close()
def sessionmaker(bind): return Session
"#;

/// Creates a place's database with these statements, and the `mysql` command that reads it.
pub fn database(place: &Place, statements: &str) {
    executable(&place.root.join("bin/mysql"), MYSQL);
    let make = "import sqlite3, sys\ndb = sqlite3.connect('database')\n\
                db.executescript(sys.stdin.read())\ndb.commit()\n";
    let file = place.root.join("statements");
    std::fs::write(&file, statements).unwrap();
    let status = Command::new("python3")
        .args(["-c", make])
        .current_dir(&place.root)
        .stdin(std::fs::File::open(file).unwrap())
        .status();
    assert!(status.unwrap().success(), "{statements}");
}

/// The article's UDP server, stopped when this value is dropped. If the article is not available, an equivalent
/// server.
pub struct ArticleServer {
    child: Option<Child>,
    pub address: SocketAddr,
}

impl ArticleServer {
    /// Starts the server with this place's database, which contains these upgrades: id, name, version and file.
    pub fn start(place: &Place, upgrades: Vec<(usize, String, String, Vec<u8>)>) -> ArticleServer {
        let article = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/seed.txt");
        match std::fs::read_to_string(article) {
            Ok(article) => ArticleServer::of(&article, place),
            Err(_) => ArticleServer {
                child: None,
                address: equivalent(upgrades),
            },
        }
    }

    fn of(article: &str, place: &Place) -> ArticleServer {
        let code = article.split("```python\n").nth(1).unwrap();
        let code = code.split("```").next().unwrap();
        assert!(code.contains("LUAUPDATE") && code.contains("2234"));
        let folder = place.root.join("python");
        for (name, text) in [
            ("gevent/__init__.py", ""),
            ("gevent/monkey.py", "def patch_all(): pass\n"),
            ("gevent/server.py", GEVENT_SERVER),
            ("sqlalchemy/__init__.py", SQLALCHEMY),
            ("sqlalchemy/orm.py", SQLALCHEMY_ORM),
            // Port 0 lets the kernel choose a port.
            ("device_upgrade_server.py", &code.replace("2234", "0")),
        ] {
            executable(&folder.join(name), text);
        }
        let mut child = Command::new("python3")
            .args(["-W", "ignore", "device_upgrade_server.py"])
            .current_dir(&folder)
            .env("DATABASE", place.root.join("database"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Ok(port) = line.trim().parse::<u16>() else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{}", std::fs::read_to_string(folder.join("log")).unwrap());
        };
        ArticleServer {
            child: Some(child),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

impl Drop for ArticleServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Replies like the article's server, including its faults: its ranges exclude no device, and the last packet of a
/// file of full packets has 0 bytes.
fn equivalent(upgrades: Vec<(usize, String, String, Vec<u8>)>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let parts: Vec<&str> = text.split(',').collect();
            let reply = match parts[..] {
                [get, id] if get.starts_with("Get") => {
                    let index: usize = get[3..].parse().unwrap();
                    let found = upgrades.iter().find(|upgrade| upgrade.0.to_string() == id);
                    let packet = found
                        .unwrap()
                        .3
                        .chunks(1022)
                        .nth(index - 1)
                        .unwrap_or_default();
                    [&(index as u16).to_be_bytes(), packet].concat()
                }
                [_, name, version] => match upgrades.iter().find(|upgrade| upgrade.1 == name) {
                    None => b"error all".to_vec(),
                    // A comparison as texts is sufficient for the versions of these tests.
                    Some(upgrade) if version >= &*upgrade.2 => b"version error".to_vec(),
                    Some((id, _, _, bytes)) => {
                        let (count, last) = (bytes.len().div_ceil(1022), bytes.len() % 1022);
                        format!("LUAUPDATE,{id},{count},{last}").into_bytes()
                    }
                },
                _ => b"unknown function".to_vec(),
            };
            let _ = socket.send_to(&reply, peer);
        }
    });
    address
}
