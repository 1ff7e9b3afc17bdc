//! The command `luat-ota probe`: plays every generation of module against a running server, and
//! states for each one that fails what the server must change.
//!
//! After the clients that were updated, one more client is played with a version that nothing is
//! newer than. A server that sends the file to this client too (a static file server, a script that
//! compares nothing) makes every module update again and again, and no other client would show
//! that.

use super::diagnose;
use super::driver::{self, Played, Settings};
use super::first_edition::Dialect;
use super::generations::{Client, Module, Transport};
use super::{Endpoint, Outcome, lua};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use smol::block_on;
use std::fmt::Write as _;
use std::time::Duration;

/// Number of clients that play at once: few, so that a single-threaded server does not seem silent.
const CONCURRENCY: usize = 6;

/// Version that nothing is newer than; [`NEWEST_DIGITS`] is that for the client that accepts only
/// single digits.
const NEWEST: &str = "999.999.999";
const NEWEST_DIGITS: &str = "9.9.9";

/// Options of a probe.
#[derive(Clone, Debug)]
pub struct Options {
    /// Server for HTTP clients.
    pub http: Option<Endpoint>,
    /// Server for clients of the first edition over UDP.
    pub udp: Option<Endpoint>,
    /// Server for clients of the first edition over TCP.
    pub tcp: Option<Endpoint>,
    /// Module that is played.
    pub module: Module,
    /// Whether each client is a device of its own, with the next IMEI. Otherwise all are one
    /// device, which a server with a loop guard refuses after a few downloads.
    pub separate_imeis: bool,
    /// Bytes that every client must end with.
    pub expect: Option<Vec<u8>>,
    /// Time after which a server that sends nothing counts as silent.
    pub patience: Duration,
}

/// Result of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The client has new firmware.
    Updated,
    /// The client takes the reply for "no update", as intended.
    NoUpdate,
    /// The server does not offer what this client requests (libfota3). Not a failure.
    NotOffered,
    /// The client was refused, and fails by its own bug that no server can avoid. Not a failure.
    KnownBug,
    /// The client cannot be played with this version or these options. Not a failure.
    NotPlayed,
    /// The client fails.
    Failed,
}

impl ProbeResult {
    /// Returns the result in words for people.
    pub fn label(self) -> &'static str {
        match self {
            ProbeResult::Updated => "updated",
            ProbeResult::NoUpdate => "no update",
            ProbeResult::NotOffered => "not offered here",
            ProbeResult::KnownBug => "no update (client bug)",
            ProbeResult::NotPlayed => "not played",
            ProbeResult::Failed => "FAILS",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            ProbeResult::Updated | ProbeResult::NoUpdate => "\x1b[32m",
            ProbeResult::Failed => "\x1b[1;31m",
            _ => "\x1b[33m",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// The client's name.
    pub client: String,
    /// Result of the client.
    pub verdict: ProbeResult,
    /// Duration of the attempt, on the module's clock.
    pub duration: Duration,
    /// Size of the new firmware, and its SHA-256 in hexadecimal.
    pub image: Option<(usize, String)>,
    /// Text that the client itself would report.
    pub detail: String,
    /// Change that the server needs.
    pub change: Option<String>,
}

/// Result of a probe.
#[derive(Clone, Debug)]
pub struct Report {
    /// One row for each client.
    pub rows: Vec<Row>,
}

/// Plays every client for which an address was given.
pub fn run(options: &Options) -> Report {
    let clients: Vec<(Client, Endpoint)> = Client::all()
        .into_iter()
        .filter_map(|client| {
            let endpoint = match client.transport() {
                Transport::Http => options.http.clone(),
                Transport::Udp => options.udp.clone(),
                Transport::Tcp => options.tcp.clone(),
            };
            endpoint.map(|endpoint| (client, endpoint))
        })
        .collect();
    let slots = smol::lock::Semaphore::new(CONCURRENCY);
    let executor = smol::LocalExecutor::new();
    block_on(executor.run(async {
        let tasks: Vec<_> = (0..)
            .zip(&clients)
            .map(|(number, (client, endpoint))| {
                let slots = &slots;
                let mut options = options.clone();
                if options.separate_imeis {
                    options.module.imei = super::nth_imei(&options.module.imei, number);
                }
                executor.spawn(async move {
                    let _slot = slots.acquire().await;
                    let played = play(*client, endpoint, &options).await;
                    evaluate(*client, &options, played)
                })
            })
            .collect();
        let mut rows = Vec::new();
        for task in tasks {
            rows.push(task.await);
        }
        for transport in [Transport::Http, Transport::Udp, Transport::Tcp] {
            let updated = clients.iter().zip(&rows).find(|((client, _), row)| {
                client.transport() == transport && row.verdict == ProbeResult::Updated
            });
            if let Some(((client, endpoint), _)) = updated {
                rows.push(probe_newest(*client, endpoint, options).await);
            }
        }
        Report { rows }
    }))
}

async fn play(client: Client, endpoint: &Endpoint, options: &Options) -> Played {
    let mut attempt = client.attempt(&options.module, endpoint);
    driver::play(attempt.as_mut(), &Settings::probing(options.patience)).await
}

/// Plays the client once more, with a version that nothing is newer than.
async fn probe_newest(client: Client, endpoint: &Endpoint, options: &Options) -> Row {
    let digits = matches!(client, Client::First(Dialect::Official, _));
    let newest = if digits { NEWEST_DIGITS } else { NEWEST };
    let mut options = options.clone();
    options.module.version = newest.to_owned();
    options.expect = None;
    let played = play(client, endpoint, &options).await;
    let named = match client.transport() {
        Transport::Http => "HTTP",
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    };
    let name = format!("any client with version {newest}, {named}");
    let mut row = match &played.outcome {
        Outcome::Updated(_) => Row {
            change: Some(
                "compare versions: a module that runs the newest one is sent the file again, and updates endlessly"
                    .to_owned(),
            ),
            verdict: ProbeResult::Failed,
            detail: "updates again".to_owned(),
            duration: played.duration,
            image: None,
            client: String::new(),
        },
        // How the client handles a reply was judged before. Here only the reply counts.
        _ => evaluate(client, &options, played),
    };
    row.client = name;
    row
}

fn evaluate(client: Client, options: &Options, played: Played) -> Row {
    let mut row = Row {
        client: client.name(),
        verdict: ProbeResult::Failed,
        duration: played.duration,
        image: None,
        detail: String::new(),
        change: None,
    };
    match &played.outcome {
        Outcome::Updated(bytes) => {
            row.image = Some((bytes.len(), hex(&Sha256::digest(bytes))));
            row.verdict = ProbeResult::Updated;
            if let Some(expected) = &options.expect
                && expected != bytes
            {
                row.verdict = ProbeResult::Failed;
                row.detail = difference(bytes, expected);
                row.change = Some(format!("serve the expected file: {}", row.detail));
            }
        }
        Outcome::NoUpdate(log) if is_libfota3(client) && !offers_libfota3(&played) => {
            row.verdict = ProbeResult::NotOffered;
            row.detail = log.clone();
        }
        Outcome::NoUpdate(log) => {
            row.detail = log.clone();
            let blame = played
                .exchanges
                .last()
                .and_then(super::driver::Exchange::status)
                .filter(|&status| status == 400 || status >= 500);
            if options.expect.is_some() {
                row.change = Some(format!("offer the expected file to this module: {log}"));
            } else {
                row.verdict = ProbeResult::NoUpdate;
            }
            if let Some(status) = blame {
                row.change = Some(diagnose::Flaw::Error(status).sentence());
            }
        }
        Outcome::Failed(failure) => {
            row.detail = diagnose::describe(failure);
            if played.connects == 0 {
                row.verdict = ProbeResult::NotPlayed;
            } else if is_libfota3(client) && received_any(&played) && !offers_libfota3(&played) {
                row.verdict = ProbeResult::NotOffered;
            } else if diagnose::is_known_bug(client, &played) {
                row.verdict = ProbeResult::KnownBug;
            } else {
                row.change = Some(diagnose::sentence(client, failure, &played));
            }
        }
    }
    row
}

fn is_libfota3(client: Client) -> bool {
    matches!(client, Client::Libfota3(_))
}

/// Whether the check was answered with JSON that has a code, as libfota3 requires.
fn offers_libfota3(played: &Played) -> bool {
    played.exchanges.first().is_some_and(|check| {
        check.status() == Some(200)
            && check
                .http()
                .is_some_and(|(_, body)| lua::find(body, b"\"code\"", 0).is_some())
    })
}

fn received_any(played: &Played) -> bool {
    played
        .exchanges
        .iter()
        .any(|exchange| exchange.received > 0)
}

/// Describes how the bytes differ from the expected ones.
pub(super) fn difference(bytes: &[u8], expected: &[u8]) -> String {
    let at = bytes
        .iter()
        .zip(expected)
        .position(|(one, other)| one != other)
        .unwrap_or(bytes.len().min(expected.len()));
    format!(
        "received {} bytes instead of {}, different from byte {at} on",
        bytes.len(),
        expected.len()
    )
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Report {
    /// Whether no client failed.
    pub fn is_good(&self) -> bool {
        self.count(ProbeResult::Failed) == 0
    }

    fn count(&self, verdict: ProbeResult) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| row.verdict == verdict).count()
    }

    /// Returns the report as a table, with colours for a terminal if `colours`.
    pub fn text(&self, colours: bool) -> String {
        let width = |of: fn(&Row) -> usize, title: usize| {
            self.rows.iter().map(of).max().unwrap_or(0).max(title)
        };
        let client = width(|row| row.client.chars().count(), 6);
        let verdict = width(|row| row.verdict.label().len(), 7);
        let mut out = format!("{:client$}  {:verdict$}  SECONDS\n", "CLIENT", "VERDICT");
        for row in &self.rows {
            let words = format!("{:verdict$}", row.verdict.label());
            let words = match colours {
                true => format!("{}{words}\x1b[0m", row.verdict.colour()),
                false => words,
            };
            let seconds = row.duration.as_secs_f64();
            let _ = write!(out, "{:client$}  {words}  {seconds:7.1}", row.client);
            let reason = (row.verdict == ProbeResult::NoUpdate).then_some(&row.detail);
            if let Some(text) = row.change.as_ref().or(reason) {
                let _ = write!(out, "  {text}");
            }
            out.push('\n');
        }
        out.push('\n');
        let mut parts = Vec::new();
        for verdict in [
            ProbeResult::Updated,
            ProbeResult::NoUpdate,
            ProbeResult::KnownBug,
            ProbeResult::NotOffered,
            ProbeResult::NotPlayed,
            ProbeResult::Failed,
        ] {
            match (self.count(verdict), verdict) {
                (0, _) => {}
                (count, ProbeResult::Failed) => parts.push(format!("{count} failed")),
                (count, _) => parts.push(format!("{count} {}", verdict.label())),
            }
        }
        let _ = writeln!(out, "{} clients: {}.", self.rows.len(), parts.join(", "));
        let mut images: Vec<&(usize, String)> = self
            .rows
            .iter()
            .filter_map(|row| row.image.as_ref())
            .collect();
        images.sort();
        images.dedup();
        for (size, sum) in images {
            let _ = writeln!(out, "Image: {size} bytes, SHA-256 {sum}");
        }
        out
    }

    /// Returns the report as one JSON object.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({
            "ok": self.is_good(),
            "updated": self.count(ProbeResult::Updated),
            "no_update": self.count(ProbeResult::NoUpdate),
            "client_bug": self.count(ProbeResult::KnownBug),
            "not_offered": self.count(ProbeResult::NotOffered),
            "not_played": self.count(ProbeResult::NotPlayed),
            "failed": self.count(ProbeResult::Failed),
            "clients": rows,
        })
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "client": self.client,
            "verdict": match self.verdict {
                ProbeResult::Updated => "updated",
                ProbeResult::NoUpdate => "no_update",
                ProbeResult::NotOffered => "not_offered",
                ProbeResult::KnownBug => "client_bug",
                ProbeResult::NotPlayed => "not_played",
                ProbeResult::Failed => "failed",
            },
            "seconds": self.duration.as_secs_f64(),
            "bytes": self.image.as_ref().map(|(size, _)| size),
            "sha256": self.image.as_ref().map(|(_, sum)| sum),
            "detail": self.detail,
            "change": self.change,
        })
    }
}
