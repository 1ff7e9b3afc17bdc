//! Connections: accepts them, reads the head, checks access, responds and closes. A connection carries one request.
//!
//! At the cap a new connection evicts the oldest one whose request carries no valid token, or, if every request does,
//! the oldest one whose response is written. Connections without a token can therefore never fill the port
//! (docs/hazards.md 30).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt as _, or, yield_now};
use smol::{Async, LocalExecutor, Timer};

use super::access::{Denied, Permission};
use super::api;
use super::body::RequestBody;
use super::codec::StatusCode;
use super::context::OperatorContext;
use super::head::{self, RequestHead};
use super::response::{ApiResult, Effect, Response, ResponseBody};
use super::route::{self, NoRoute, OperatorRoute};
use super::stream::{close, receive, send};
use crate::fleet::entry::ChangeEntry;
use crate::os;

/// Maximum number of concurrent connections.
const CONNECTIONS: usize = 64;

/// Time within which a head must be complete.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Approximate size of a connection's send buffer in the kernel, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Maximum number of bytes of an unwanted body that are read after a request without a valid token, so that the client
/// reads the response, and the time for that.
const SHORT_LINGER: (u64, Duration) = (64 * 1024, Duration::from_secs(1));

/// The same limits for a request with a valid token: the client reads the response even after an upload of the largest
/// size.
const LONG_LINGER: (u64, Duration) = (512 << 20, Duration::from_secs(10));

/// Opens the listener. The error is a sentence that names the flag to change.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "address in use by another program".to_owned(),
            _ => error.to_string(),
        };
        format!(
            "cannot listen on {address} for the operator: {why}; choose another with --operator, or --operator off"
        )
    })?;
    // Without this limit the kernel buffers up to 4 MiB for each client that does not read.
    let _ = os::net::send_buffer(&listener, SEND_BUFFER);
    Ok(listener)
}

/// Serves until `stopped` is closed, and then waits until all connections, which are tasks of `executor`, are closed.
pub async fn serve(
    listener: TcpListener,
    context: Rc<OperatorContext>,
    executor: Weak<LocalExecutor<'static>>,
    stopped: Receiver<Infallible>,
) {
    let listener = match Async::new(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!(target: "operator", "cannot wait for connections: {error}");
            return;
        }
    };
    let table = Rc::new(RefCell::default());
    // Each connection has a sender, so the channel is closed when the last connection ends.
    let (is_open, all_closed) = bounded::<Infallible>(1);
    let accept_all = async {
        loop {
            match accept(&listener).await {
                Ok(stream) => match Connection::register(&table) {
                    Some((connection, evicted)) => {
                        let evicted = async move {
                            if evicted.recv().await.is_err() {
                                future::pending().await
                            }
                        };
                        let run = run(Rc::clone(&context), stream, connection, stopped.clone());
                        let is_open = is_open.clone();
                        let run = async move {
                            run.await;
                            drop(is_open);
                        };
                        // The reference is weak because the executor owns this task.
                        if let Some(executor) = executor.upgrade() {
                            executor.spawn(or(evicted, run).boxed_local()).detach();
                        }
                    }
                    None => refuse(&stream),
                },
                Err(error) => {
                    log::debug!(target: "operator", "a connection cannot be accepted: {error}");
                    Timer::after(ACCEPT_PAUSE).await;
                }
            }
            yield_now().await;
        }
    };
    let stop = async {
        let _ = stopped.recv().await;
    };
    or(stop, accept_all).await;
    drop(is_open);
    let _closed = all_closed.recv().await;
}

/// Accepts the next connection.
async fn accept(listener: &Async<TcpListener>) -> io::Result<Async<TcpStream>> {
    let (stream, _) = listener.accept().await?;
    // With Nagle's algorithm each of several small writes would wait for the acknowledgement of the one before.
    let _ = stream.get_ref().set_nodelay(true);
    Ok(stream)
}

/// Refuses a client at the cap, without waiting for the client.
fn refuse(stream: &Async<TcpStream>) {
    let response = Response::unavailable("too many connections at once").with("retry-after", "2");
    let _ = stream.get_ref().write(&response.encode(false, false));
}

/// Classes of connections, in the order of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionClass {
    /// No valid token: an unfinished head, a response to a public request, or a refusal.
    Unauthorised,
    /// A valid token and a written response.
    Answered,
    /// A valid token and a response that is not written yet: never evicted.
    Working,
}

/// The connections by age.
#[derive(Default)]
struct ConnectionTable {
    next: u64,
    connections: BTreeMap<u64, (EvictionClass, Sender<()>)>,
}

/// A registered connection. It is removed from the table on drop.
struct Connection {
    table: Rc<RefCell<ConnectionTable>>,
    number: u64,
}

impl Connection {
    /// Registers a connection and, at the cap, evicts another one. A message on the returned channel means that this
    /// connection is evicted. Returns `None` if no connection can be evicted.
    fn register(table: &Rc<RefCell<ConnectionTable>>) -> Option<(Connection, Receiver<()>)> {
        let mut borrowed = table.borrow_mut();
        let connections = &mut borrowed.connections;
        if connections.len() >= CONNECTIONS {
            let (&number, (class, evict)) =
                connections.iter().min_by_key(|(_, (class, _))| *class)?;
            if *class == EvictionClass::Working {
                return None;
            }
            let _ = evict.try_send(());
            connections.remove(&number);
        }
        let (evict, evicted) = bounded(1);
        let number = borrowed.next;
        borrowed.next += 1;
        borrowed
            .connections
            .insert(number, (EvictionClass::Unauthorised, evict));
        let connection = Connection {
            table: Rc::clone(table),
            number,
        };
        Some((connection, evicted))
    }

    fn set_class(&self, class: EvictionClass) {
        if let Some(entry) = self.table.borrow_mut().connections.get_mut(&self.number) {
            entry.0 = class;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.table.borrow_mut().connections.remove(&self.number);
    }
}

/// Handles a connection from the first byte to the last.
async fn run(
    context: Rc<OperatorContext>,
    stream: Async<TcpStream>,
    connection: Connection,
    stopped: Receiver<Infallible>,
) {
    let mut bytes = Vec::new();
    let stop = async {
        let _ = stopped.recv().await;
        None
    };
    match or(read_head(&stream, &mut bytes), stop).await {
        None => {}
        Some(Ok((head, used))) => {
            let early = bytes.split_off(used);
            let respond = respond(&context, &stream, &connection, &head, early, &stopped);
            // Boxed, so that connections that wait for a head do not hold the memory for the rest.
            Box::pin(respond).await;
        }
        Some(Err(response)) => {
            let sent = send(&stream, &response.encode(false, false)).await;
            if sent.is_ok() {
                let (bytes, time) = SHORT_LINGER;
                close(&stream, bytes, time).await;
            }
        }
    }
}

/// Reads a complete head. Returns it with its length, or the response to an invalid or late head; `None` if the client
/// has disconnected.
async fn read_head(
    stream: &Async<TcpStream>,
    bytes: &mut Vec<u8>,
) -> Option<ApiResult<(Box<RequestHead>, usize)>> {
    let read = async {
        let mut buffer = vec![0; head::LONGEST];
        loop {
            let count = receive(stream, &mut buffer).await.ok()?;
            if count == 0 {
                return None;
            }
            bytes.extend(buffer.iter().take(count));
            if let Some(complete) = head::read(bytes).transpose() {
                return Some(complete);
            }
        }
    };
    let late = async {
        Timer::after(HEAD_TIMEOUT).await;
        Some(Err(Response::problem(
            StatusCode::RequestTimeout,
            "the head was not complete in time",
        )))
    };
    or(read, late).await
}

/// Responds to a request and closes the connection. `early`: bytes that arrived after the head.
async fn respond(
    context: &OperatorContext,
    stream: &Async<TcpStream>,
    connection: &Connection,
    head: &RequestHead,
    early: Vec<u8>,
    stopped: &Receiver<Infallible>,
) {
    let mut body = RequestBody::new(stream, head, early);
    let (permission, response) = match authorise(context, head) {
        Err(response) => (Permission::Public, response),
        Ok((permission, by, route)) => {
            if permission != Permission::Public {
                connection.set_class(EvictionClass::Working);
            }
            let response = match route {
                Ok(route) => api::answer(context, head, route, &mut body).await,
                Err(NoRoute::NotFound) => api::not_found(),
                Err(NoRoute::Method(methods)) => Response::problem(
                    StatusCode::MethodNotAllowed,
                    format!("this path takes {methods}"),
                )
                .with("allow", methods),
            };
            if permission == Permission::Write {
                record(context, head, &by, &response);
            }
            (permission, response)
        }
    };
    let streamed = match &response.body {
        ResponseBody::Bytes(_) => None,
        _ if head.head_only() => None,
        streamed => Some(streamed.clone()),
    };
    if send(stream, &response.encode(head.head_only(), head.is_http10))
        .await
        .is_err()
    {
        return;
    }
    match streamed {
        Some(ResponseBody::Events(events)) => {
            // An error means that the client has disconnected.
            let _ = api::events::send_events(stream, events, head.is_http10, stopped).await;
            return;
        }
        Some(ResponseBody::Export(list)) => {
            let sent = list.send(context, stream, head.is_http10);
            let stop = async {
                let _ = stopped.recv().await;
                Err(io::ErrorKind::Interrupted.into())
            };
            // The missing end tells the client that the list is incomplete.
            if or(stop, sent).await.is_err() {
                return;
            }
        }
        Some(ResponseBody::Bytes(_)) | None => {}
    }
    let (bytes, time) = match permission {
        Permission::Public => SHORT_LINGER,
        Permission::Read | Permission::Write => {
            connection.set_class(EvictionClass::Answered);
            LONG_LINGER
        }
    };
    close(stream, body.outstanding().min(bytes), time).await;
}

/// Records what a request changed. `by`: the name of the request's token.
fn record(context: &OperatorContext, head: &RequestHead, by: &str, response: &Response) {
    let change = match &response.effect {
        Effect::Nothing => return,
        Effect::Change(change) => ChangeEntry::clone(change),
        Effect::Unstated if !response.status.is_success() => return,
        Effect::Unstated => {
            let target = format!("/{}", head.target.parts.join("/"));
            ChangeEntry::new(head.method().as_ref(), "", "", &target)
        }
    };
    let mut fleet = context.fleet.borrow_mut();
    fleet.changed(by, change, Instant::now());
}

/// A request that passed the access rules: permission, name of the token, and route.
type Authorised<'a> = (Permission, Rc<str>, Result<OperatorRoute<'a>, NoRoute>);

/// Decides whether a request is allowed. The error is the response to a request that is not.
fn authorise<'a>(context: &OperatorContext, head: &'a RequestHead) -> ApiResult<Authorised<'a>> {
    let method = head.method();
    let route = route::route(method, &head.target);
    let permission = route::permission(method, &route);
    let credentials = head.credentials()?;
    let result = context.access.authorise(permission, &credentials);
    let by = result.map_err(Denied::response)?;
    Ok((permission, by, route))
}
