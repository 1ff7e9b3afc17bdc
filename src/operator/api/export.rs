//! Exports: a whole list as CSV or JSON, sent in pieces. Only one piece is in memory at a time, and other tasks run
//! between two pieces.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;
use smol::Async;

use super::releases;
use crate::export::device;
use crate::firmware::catalog::Catalog;
use crate::fleet::clock::unix_now;
use crate::fleet::devices::EstablishedWalk;
use crate::operator::context::OperatorContext;
use crate::operator::response::{ExportedList, ListExport};
use crate::operator::slice::Slice;
use crate::operator::stream::{end_pieces, send_piece};

/// Number of devices that are added between two reads of the clock.
const DEVICES: usize = 4;

/// Number of samples that are added between two reads of the clock.
const SAMPLES: usize = 16;

/// Number of bytes at which a piece is sent.
const PIECE: usize = 16 * 1024;

impl ListExport {
    /// Sends the list, after the head. `is_http10`: do not use chunks.
    pub(in crate::operator) async fn send(
        mut self,
        context: &OperatorContext,
        stream: &Async<TcpStream>,
        is_http10: bool,
    ) -> io::Result<()> {
        // All pieces use one catalogue, so that the indexes of its releases do not change.
        let catalog = (context.catalog)();
        let mut text = String::new();
        self.rows.begin(&mut text);
        let mut slice = Slice::begin();
        let established = match &self.list {
            ExportedList::Releases(project) => {
                let projects = releases::names(&catalog, project.as_deref());
                releases::established(context, projects, &mut slice).await
            }
            _ => EstablishedWalk::default(),
        };
        let mut next = Some(0);
        while let Some(from) = next {
            next = self
                .add(
                    context,
                    (&catalog, &established),
                    from,
                    &mut slice,
                    &mut text,
                )
                .await?;
            if text.len() >= PIECE {
                send_piece(stream, &text, is_http10).await?;
                text.clear();
            }
            slice.pause_if_over().await;
        }
        let mut rest = vec![("next", Value::Null)];
        match &self.list {
            ExportedList::Devices(_) => {
                rest.push(("matching", self.rows.count.into()));
                rest.push(("total", context.fleet.borrow().devices().into()));
            }
            ExportedList::Versions(history) => rest.extend(history.times()),
            ExportedList::Releases(_) | ExportedList::History(_) => {}
        }
        self.rows.end(&mut text, &rest);
        send_piece(stream, &text, is_http10).await?;
        end_pieces(stream, is_http10).await
    }

    /// Adds the rows of one piece, starting at the index `from`; returns the index of the next row.
    async fn add(
        &mut self,
        context: &OperatorContext,
        (catalog, established): (&Catalog, &EstablishedWalk),
        from: u32,
        slice: &mut Slice,
        text: &mut String,
    ) -> io::Result<Option<u32>> {
        match &mut self.list {
            ExportedList::Devices(filter) => {
                let fleet = context.fleet.borrow();
                let page = fleet.page(filter, Some(from), DEVICES, Instant::now(), unix_now());
                for view in page.devices {
                    self.rows.row(text, &device(&view));
                }
                Ok(page.next)
            }
            ExportedList::History(history) => Ok(history.add(from, SAMPLES, &mut self.rows, text)),
            ExportedList::Versions(history) => {
                let fleet = context.fleet.borrow();
                Ok(history.add(&fleet, (from, SAMPLES), &mut self.rows, text))
            }
            ExportedList::Releases(project) => {
                let wanted = project.as_deref();
                let releases = releases::all(catalog)
                    .filter(|(project, _)| wanted.is_none_or(|wanted| wanted == &*project.name));
                let page: Vec<_> = releases.skip(from as usize).take(releases::BATCH).collect();
                let row = |row: &Value| self.rows.row(text, row);
                let shown = releases::show(context, &page, established, slice, row).await;
                // The head has been sent, so only the end of the connection can report the error.
                shown.map_err(|_| io::ErrorKind::Other)?;
                let is_last = page.len() < releases::BATCH;
                Ok((!is_last).then_some(from.saturating_add(releases::BATCH as u32)))
            }
        }
    }
}
