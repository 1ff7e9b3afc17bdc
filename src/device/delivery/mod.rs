//! Delivery of a file's bytes to one module. [`transmission`] sends them and measures the progress, [`await_close`]
//! waits for the module's side to close.
//!
//! Progress is measured by the bytes that the module's side has acknowledged (SIOCOUTQ), never by those that the
//! socket accepted: a buffer that drains at 175 bytes a second is writable only every twenty minutes, but the module
//! is alive (docs/hazards.md 13). The duration of a download is not limited, only the time without progress.

mod await_close;
mod transmission;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

pub(super) use self::transmission::Transmission;
use super::check_log::EndedDownload;
use super::plan::{DeliveryPlan, NO_ROOM};
use super::seats::Seat;
use super::slots::Download;
use super::stream::{UnreadBody, close, send_all};
use super::{Service, Stop, Stream};
use crate::decision::Refusal;
use crate::firmware::snapshot::{LoadError, Snapshot};
use crate::fleet::network::Network;
use crate::wire::reply::{self, Reply};

/// Maximum number of bytes that are read from a client while it downloads.
const MAX_CLIENT_BYTES: u64 = 64 * 1024;

/// Sends the planned bytes, and serves the connection to its end.
pub(super) async fn deliver(
    service: &Rc<Service>,
    stream: &Stream,
    seat: &Seat,
    plan: &DeliveryPlan,
    stop: &Stop,
) {
    let reply = match begin(service, seat, plan, stop).await {
        Ok((download, snapshot)) => {
            let mut await_close = {
                let mut transmission = Transmission::new(service, stream, seat, plan, download);
                transmission.run(&snapshot).await
            };
            // Frees the snapshot for other downloads before the wait for the client's end.
            drop(snapshot);
            if let Some(await_close) = &mut await_close
                && !await_close.wait(stream, seat, stop).await
            {
                close(stream, UnreadBody::None).await;
            }
            return;
        }
        Err(reply) => reply,
    };
    service.count_reply(&reply);
    if send_all(service, stream, reply.bytes()).await {
        close(stream, UnreadBody::None).await;
    }
}

/// Waits for a slot, and loads the file. The error is the reply to send instead; everything is logged then.
async fn begin(
    service: &Rc<Service>,
    seat: &Seat,
    plan: &DeliveryPlan,
    stop: &Stop,
) -> Result<(Download, Arc<Snapshot>), Reply> {
    let network = Network::of(plan.subject.peer.ip());
    let began = Instant::now();
    let mut pending = PendingCheckLog {
        service,
        plan,
        reason: Some("its connection was closed to make room for another"),
    };
    let download = match plan.start {
        0 => Download::begin(service, network, stop, began).await,
        // A resumed download waited for its slot when it began.
        _ => Some(Download::resume(service, network, began)),
    };
    let Some(download) = download else {
        pending.reason = Some(match stop.is_raised() {
            true => "the server stops",
            false => NO_ROOM,
        });
        drop(pending);
        if plan.check.is_none() {
            // Without a check there is no other record of the refusal.
            record_unstarted(service, plan, began, "full");
        }
        return Err(reply::refusal(Refusal::Full, false));
    };
    pending.reason = None;
    drop(pending);
    seat.begin_download(Instant::now());
    let refusal = match service.load_with_retry(plan.content).await {
        Ok(snapshot) if snapshot.size() == plan.size => return Ok((download, snapshot)),
        Ok(_) | Err(LoadError::Gone(_)) => Refusal::NotNow,
        Err(LoadError::Unread(_)) => Refusal::Unread,
        Err(LoadError::Full(_)) => Refusal::Full,
    };
    let (reply, result) = match refusal {
        Refusal::Full => (reply::refusal(Refusal::Full, false), "full"),
        Refusal::Unread => (reply::refusal(Refusal::Unread, false), "gone"),
        _ if plan.start > 0 && plan.direct => (reply::precondition_failed(), "gone"),
        _ if plan.start > 0 => (reply::unsatisfiable(None), "gone"),
        refusal => (reply::refusal(refusal, false), "gone"),
    };
    record_unstarted(service, plan, began, result);
    Err(reply)
}

/// A check that is not in the log yet, since it is not known whether there will be room. It is logged when this is
/// dropped, at whatever point that happens.
struct PendingCheckLog<'a> {
    service: &'a Service,
    plan: &'a DeliveryPlan,
    /// Reason why the module gets nothing; `None` if the download may begin.
    reason: Option<&'static str>,
}

impl Drop for PendingCheckLog<'_> {
    fn drop(&mut self) {
        match self.reason {
            Some(why) => self.plan.record_no_room(self.service, why),
            None => self.plan.record_check(self.service),
        }
    }
}

/// Logs a download that never began.
fn record_unstarted(service: &Service, plan: &DeliveryPlan, began: Instant, result: &'static str) {
    let now = Instant::now();
    let ended = EndedDownload {
        number: service.fleet.borrow_mut().events.number(),
        bytes: 0,
        reached: plan.start,
        size: plan.size,
        duration: now.saturating_duration_since(began),
        result,
        transfer: None,
    };
    plan.subject.record_download(service, ended, now);
}
