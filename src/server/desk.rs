//! Opens the operator's side: its listener, its token, and what it may look at.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use smol::LocalExecutor;
use smol::future::FutureExt as _;

use super::Settings;
use crate::device::{Service, Stop};
use crate::firmware::watch::Watcher;
use crate::fleet::Fleet;
use crate::operator::access::Access;
use crate::operator::read_token::{self, ReadToken};
use crate::operator::token::{self, Source, Token};
use crate::operator::{self, Desk, Limits, Parts};
use crate::state::{self, ServerState};

/// What was opened before the folder was looked through.
pub(super) struct Prepared {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
    /// `None` where it cannot be kept.
    read: Option<ReadToken>,
}

/// Opens the listener (or takes the one that systemd passed) and the token; `None` with `--operator off`.
/// The error is a sentence.
pub(super) fn prepare(
    settings: &Settings,
    state: &ServerState,
    passed: Option<TcpListener>,
) -> Result<Option<Prepared>, String> {
    let wanted = &settings.operator;
    let listener = match (passed, wanted.address) {
        (Some(listener), _) => listener,
        (None, Some(address)) => {
            guarded(settings, address)?;
            operator::listen(address)?
        }
        (None, None) => return Ok(None),
    };
    let address = listener
        .local_addr()
        .map_err(|error| format!("the operator's listener has no address: {error}"))?;
    guarded(settings, address)?;
    // What a version that had no read token left behind.
    let is_upgrade = [token::FILE, "journal.jsonl", "hashes.jsonl"]
        .iter()
        .any(|name| state.file(name).exists());
    let token = Token::open(
        wanted.token.as_deref(),
        wanted.token_file.as_deref(),
        Some(state.folder()),
    )?;
    let read = ReadToken::open(state.file(read_token::FILE));
    if let Some(read) = read.as_ref().filter(|read| read.is_new && is_upgrade) {
        log::warn!(
            target: "operator",
            "/api and /metrics now need a token for reading, on this machine too: send the one in {} as \
             `Authorization: Bearer TOKEN` (Prometheus: authorization, credentials_file)",
            read.file.display()
        );
    }
    if token.source == Source::ForThisRun {
        state.write_later(token::FILE, format!("{}\n", token.text), state::PRIVATE);
    }
    if let Some(read) = read.as_ref().filter(|read| read.is_unsaved) {
        state.write_later(
            read_token::FILE,
            format!("{}\n", read.text),
            read_token::MODE,
        );
    }
    Ok(Some(Prepared {
        listener,
        address,
        token,
        read,
    }))
}

/// A non-loopback listener requires an explicit token.
fn guarded(settings: &Settings, address: SocketAddr) -> Result<(), String> {
    let wanted = &settings.operator;
    let has_token = wanted.token.is_some() || wanted.token_file.is_some();
    if has_token || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "--operator {address} can be reached from other machines: give it a token with \
         --operator-token-file FILE, or listen on 127.0.0.1"
    ))
}

impl Prepared {
    /// Begins to answer, and says where.
    pub(super) fn open(
        self,
        settings: &Settings,
        service: &Rc<Service>,
        fleet: Rc<RefCell<Fleet>>,
        watcher: &Rc<Watcher>,
        executor: &Rc<LocalExecutor<'static>>,
        stop: &Stop,
    ) {
        let Prepared {
            listener,
            address,
            token,
            read,
        } = self;
        say(address, &token);
        let read = read.as_ref().map(|read| read.text.as_str());
        let access = Access::new(&token.text, read, &settings.operator.hosts, address);
        operator::sweep(settings.folder.clone());
        let watcher = Rc::downgrade(watcher);
        let (catalog, running) = (Rc::clone(service), Rc::clone(service));
        let desk = Rc::new(Desk::new(Parts {
            access,
            limits: Limits::default(),
            catalog: Box::new(move || Arc::clone(&catalog.catalog.borrow())),
            fleet,
            folder: settings.folder.clone(),
            running: Box::new(move || running.running_downloads()),
            rescan: Box::new(move || {
                if let Some(watcher) = watcher.upgrade() {
                    watcher.rescan();
                }
            }),
        }));
        let (sender, ended) = smol::channel::bounded::<Infallible>(1);
        let stop = stop.clone();
        executor
            .spawn(
                async move {
                    stop.raised().await;
                    drop(sender);
                }
                .boxed_local(),
            )
            .detach();
        let serve = operator::serve(listener, desk, Rc::downgrade(executor), ended);
        executor.spawn(serve.boxed_local()).detach();
    }
}

/// Where people find it. The token itself is said once, when it was made, and to a terminal.
fn say(address: SocketAddr, token: &Token) {
    log::info!(target: "listen", proto = "operator", address:% = address; "");
    let at = SocketAddr::new(
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        },
        address.port(),
    );
    let text = &token.text;
    match &token.source {
        Source::Made(_) | Source::ForThisRun => {
            log::info!(target: "operator", "http://{at}/#token={text}");
        }
        Source::File(file) => {
            log::info!(target: "operator", "http://{at}/ (the token is in {})", file.display());
        }
        Source::Flag => {
            log::info!(target: "operator", "http://{at}/ (with the token of --operator-token)");
        }
    }
    let mut stderr = std::io::stderr();
    if !token.is_new() && stderr.is_terminal() {
        // Past the log, which may be kept somewhere.
        let _nobody_reads = writeln!(stderr, "operator: http://{at}/#token={text}");
    }
}
