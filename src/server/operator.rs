//! Opens the operator's interface: its listener, its tokens and its context.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use smol::future::FutureExt as _;
use smol::{LocalExecutor, Task};

use super::Settings;
use crate::device::{Service, Stop};
use crate::firmware::watch::Watcher;
use crate::operator::access::Access;
use crate::operator::connection;
use crate::operator::context::{OperatorContext, PublicSide};
use crate::operator::named_tokens;
use crate::operator::token::{self, Token, TokenSource};
use crate::os::fs::{FileStamp, Folder, sweep_unfinished};
use crate::os::notify::Notify;
use crate::os::process::{start_thread, unblock};
use crate::state::{self, ServerState};

/// The listener and the tokens, opened before the first scan.
pub(super) struct PreparedOperator {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
    /// The read token; `None` if it cannot be stored.
    read: Option<Token>,
    /// The state folder.
    state: PathBuf,
}

/// Opens the listener (or takes the one that systemd passed) and the token. Returns `None` with `--operator off`. The
/// error is a sentence.
pub(super) fn prepare(
    settings: &Settings,
    state: &ServerState,
    passed: Option<TcpListener>,
) -> Result<Option<PreparedOperator>, String> {
    let wanted = &settings.operator;
    let listener = match (passed, wanted.address) {
        (Some(listener), _) => listener,
        (None, Some(address)) => {
            check_token(settings, address)?;
            connection::listen(address)?
        }
        (None, None) => return Ok(None),
    };
    let address = listener
        .local_addr()
        .map_err(|error| format!("the operator's listener has no address: {error}"))?;
    check_token(settings, address)?;
    let (text, file) = (wanted.token.as_deref(), wanted.token_file.as_deref());
    // Files of a version without a read token. A token file that the settings name may have been written before the
    // first start, also into the state folder.
    let is_upgrade = [token::OPERATOR, "journal.jsonl", "hashes.jsonl"]
        .iter()
        .map(|name| state.file(name))
        .any(|path| path.exists() && file != Some(path.as_path()));
    let token = Token::operator(text, file, state.folder())?;
    let read = Token::reader(state.folder());
    if is_upgrade && read.as_ref().is_some_and(Token::is_new) {
        log::warn!(
            target: "operator",
            "/api and /metrics now need a token for reading, on this machine too: send the one in {} as \
             `Authorization: Bearer TOKEN` (Prometheus: authorization, credentials_file)",
            state.file(token::READ).display()
        );
    }
    for (token, name, mode) in [
        (Some(&token), token::OPERATOR, state::PRIVATE),
        (read.as_ref(), token::READ, token::READ_MODE),
    ] {
        if let Some(token) = token.filter(|token| token.source == TokenSource::Unsaved) {
            state.write_later(name, format!("{}\n", token.text), mode);
        }
    }
    Ok(Some(PreparedOperator {
        listener,
        address,
        token,
        read,
        state: state.folder().path().to_owned(),
    }))
}

/// Checks that a non-loopback listener has an explicit token.
fn check_token(settings: &Settings, address: SocketAddr) -> Result<(), String> {
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

impl PreparedOperator {
    /// Starts to serve, and logs the address. The task ends after the stop, when all connections are closed.
    pub(super) fn open(
        self,
        settings: &Settings,
        service: &Rc<Service>,
        watcher: &Rc<Watcher>,
        executor: &Rc<LocalExecutor<'static>>,
        stop: &Stop,
        state_changed: Notify,
    ) -> Task<()> {
        let PreparedOperator {
            listener,
            address,
            token,
            read,
            state,
        } = self;
        log_url(address, &token);
        let read = read.as_ref().map(|read| read.text.as_str());
        let access = Access::new(&token.text, read, &settings.operator.hosts, address);
        let stamp = named_tokens::stamp(&state);
        access.set_named(&named_tokens::read(&state));
        sweep(settings.folder.clone());
        let watcher = Rc::downgrade(watcher);
        let (catalog, public_side) = (Rc::clone(service), Rc::clone(service));
        let context = OperatorContext::new(
            access,
            Box::new(move || Arc::clone(&catalog.catalog.borrow())),
            Rc::clone(&service.fleet),
            settings.folder.clone(),
            state,
            Box::new(move || PublicSide {
                running: public_side.running_downloads(),
                is_ready: public_side.is_ready(),
            }),
            Box::new(move || {
                if let Some(watcher) = watcher.upgrade() {
                    watcher.rescan();
                }
            }),
        );
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
        let context = Rc::new(context);
        let follow = follow_tokens(Rc::clone(&context), stamp, state_changed);
        executor.spawn(follow.boxed_local()).detach();
        let serve = connection::serve(listener, context, Rc::downgrade(executor), ended);
        executor.spawn(serve.boxed_local())
    }
}

/// Reads the named tokens again whenever their file has changed. `stamp`: stamp of the file that was read before.
async fn follow_tokens(
    context: Rc<OperatorContext>,
    mut stamp: Option<FileStamp>,
    state_changed: Notify,
) {
    loop {
        state_changed.notified().await;
        let now = named_tokens::stamp(&context.state);
        if now == stamp {
            continue;
        }
        let folder = context.state.clone();
        // If no thread can be started, the next change is awaited.
        if let Ok(tokens) = unblock("tokens", move || named_tokens::read(&folder)).await {
            context.access.set_named(&tokens);
            stamp = now;
        }
    }
}

/// Removes, on a separate thread, the unfinished files of uploads whose server was killed.
fn sweep(folder: PathBuf) {
    let sweep = move || {
        let folder = Folder::open(&folder);
        let files = folder.map_or(0, |folder| sweep_unfinished(&folder));
        if files > 0 {
            log::info!(
                target: "operator",
                files = files;
                "removed unfinished files of uploads from before the server was killed"
            );
        }
    };
    // If no thread can be started, the files stay until the next start.
    let _ = start_thread("sweeping", Box::new(sweep));
}

/// Logs the URL, with the token only at the start that generated it. On a terminal the token is always shown.
fn log_url(address: SocketAddr, token: &Token) {
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
        TokenSource::Generated | TokenSource::Unsaved => {
            log::info!(target: "operator", "http://{at}/#token={text}");
        }
        TokenSource::File(file) => {
            log::info!(target: "operator", "http://{at}/ (the token is in {})", file.display());
        }
        TokenSource::Flag => {
            log::info!(target: "operator", "http://{at}/ (with the token of --operator-token)");
        }
    }
    let mut stderr = std::io::stderr();
    if !token.is_new() && stderr.is_terminal() {
        // Not through the log, because the log may be stored.
        let _ignored = writeln!(stderr, "operator: http://{at}/#token={text}");
    }
}
