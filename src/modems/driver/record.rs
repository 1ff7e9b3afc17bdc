//! Record of the exchanges between a module and a server, kept small, for finding out what is wrong
//! with the server. An exchange is a request with its reply: an HTTP connection is one exchange,
//! and a first-edition download has as many as packets, of which only the first and the last few
//! are kept.

use std::collections::VecDeque;

/// End of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The connection was still open when the module had finished or given up.
    #[default]
    Open,
    /// The server closed the connection with a FIN.
    Closed,
    /// The connection was reset (over UDP: the port is closed).
    Reset,
    /// No connection could be made; contains the reason.
    NotConnected(String),
}

/// A request and its reply.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// Whether the exchange was over UDP.
    pub datagrams: bool,
    /// Host and port as the module had them.
    pub to: String,
    /// First bytes of the request.
    pub request: Vec<u8>,
    /// First bytes of the reply.
    pub reply: Vec<u8>,
    /// Number of bytes received.
    pub received: u64,
    /// Number of bytes that the first recv returned.
    pub first: usize,
    /// Number of recvs that returned data.
    pub recvs: u32,
    /// End of the exchange.
    pub end: End,
}

impl Exchange {
    /// Splits a reply into its HTTP head and the kept part of its body, if it has a complete HTTP
    /// head.
    pub fn http(&self) -> Option<(&[u8], &[u8])> {
        if !self.reply.starts_with(b"HTTP/") {
            return None;
        }
        let end = self
            .reply
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?
            .checked_add(4)?;
        self.reply.split_at_checked(end)
    }

    /// Returns the status of an HTTP reply.
    pub fn status(&self) -> Option<u16> {
        let line = self.reply.strip_prefix(b"HTTP/")?;
        let space = line.iter().position(|&byte| byte == b' ')?;
        let digits = line.get(space.checked_add(1)?..space.checked_add(4)?)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Returns the number of received bytes that belong to a file.
    fn body(&self) -> u64 {
        match (self.status(), self.http()) {
            (Some(200..=299), Some((head, _))) => {
                let head = u64::try_from(head.len()).unwrap_or(u64::MAX);
                self.received.saturating_sub(head)
            }
            (Some(_), _) => 0,
            // A packet of the first edition: two bytes of packet number precede the data.
            (None, _) if is_get(&self.request) && self.reply != b"ERR" => {
                self.received.saturating_sub(2)
            }
            (None, _) => 0,
        }
    }
}

/// Whether the request is `Get5,7`, alone or after a check.
fn is_get(request: &[u8]) -> bool {
    let last = request.rsplitn(3, |&byte| byte == b',').nth(1);
    let word = last.unwrap_or_default();
    word.strip_prefix(b"Get")
        .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// Limits of what is kept of the exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Number of exchanges; of more, the first half and the last half are kept.
    pub exchanges: usize,
    /// Number of bytes of each request and of each reply.
    pub bytes: usize,
}

/// The exchanges of one attempt.
#[derive(Debug)]
pub(super) struct Record {
    limits: RecordLimits,
    exchanges: VecDeque<Exchange>,
    current: Option<Exchange>,
    pub received: u64,
    pub body: u64,
    pub server_errors: u32,
}

impl Record {
    pub fn new(limits: RecordLimits) -> Record {
        Record {
            limits,
            exchanges: VecDeque::new(),
            current: None,
            received: 0,
            body: 0,
            server_errors: 0,
        }
    }

    /// Begins an exchange with this server, and stores the previous one.
    pub fn begin(&mut self, datagrams: bool, to: String) {
        self.flush();
        self.current = Some(Exchange {
            datagrams,
            to,
            ..Exchange::default()
        });
    }

    pub fn add_sent(&mut self, bytes: &[u8]) {
        let answered = self.current.as_ref().filter(|current| current.recvs > 0);
        if let Some((datagrams, to)) =
            answered.map(|current| (current.datagrams, current.to.clone()))
        {
            self.begin(datagrams, to);
        }
        let limit = self.limits.bytes;
        if let Some(current) = &mut self.current {
            append(&mut current.request, bytes, limit);
        }
    }

    pub fn add_received(&mut self, bytes: &[u8]) {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(count);
        let limit = self.limits.bytes;
        if let Some(current) = &mut self.current {
            if current.recvs == 0 {
                current.first = bytes.len();
            }
            current.recvs = current.recvs.saturating_add(1);
            current.received = current.received.saturating_add(count);
            append(&mut current.reply, bytes, limit);
        }
    }

    pub fn set_end(&mut self, end: End) {
        if let Some(current) = &mut self.current {
            current.end = end;
        }
    }

    fn flush(&mut self) {
        let Some(exchange) = self.current.take() else {
            return;
        };
        self.body = self.body.saturating_add(exchange.body());
        if exchange.status().is_some_and(|status| status >= 500) {
            self.server_errors = self.server_errors.saturating_add(1);
        }
        self.exchanges.push_back(exchange);
        if self.exchanges.len() > self.limits.exchanges {
            self.exchanges.remove(self.limits.exchanges / 2);
        }
    }

    pub fn finish(&mut self) -> Vec<Exchange> {
        self.flush();
        std::mem::take(&mut self.exchanges).into()
    }
}

fn append(to: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let room = limit.saturating_sub(to.len());
    to.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RecordLimits = RecordLimits {
        exchanges: 4,
        bytes: 100,
    };

    #[test]
    fn a_send_after_an_answer_begins_a_new_exchange() {
        let mut record = Record::new(LIMITS);
        record.begin(false, "h:1".into());
        record.add_sent(b"GET / HTTP/1.1\r\n");
        record.add_sent(b"\r\n");
        record.add_received(b"HTTP/1.1 503 Oops\r\n\r\nbody");
        record.add_sent(b"again");
        record.add_received(b"HTTP/1.1 200 OK\r\n\r\nbody");
        let exchanges = record.finish();
        assert_eq!(exchanges.len(), 2);
        assert_eq!(exchanges[0].request, b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(exchanges[0].status(), Some(503));
        assert_eq!(exchanges[1].http().unwrap().1, b"body");
        assert_eq!((record.server_errors, record.body), (1, 4));
    }

    #[test]
    fn only_the_first_and_last_of_many_packets_are_kept_but_all_are_counted() {
        let mut record = Record::new(LIMITS);
        record.begin(true, "h:1".into());
        for number in 1..=9_u8 {
            record.add_sent(format!("0,K,I,S,N,1.0.0,Get{number},7").as_bytes());
            record.add_received(&[0, number, 1, 2, 3]);
        }
        assert_eq!(record.received, 45);
        let numbers: Vec<u8> = record.finish().iter().map(|e| e.reply[1]).collect();
        assert_eq!(numbers, [1, 2, 8, 9]);
        assert_eq!(record.body, 27);
    }

    #[test]
    fn an_exchange_keeps_at_most_its_limit_of_bytes() {
        let mut record = Record::new(LIMITS);
        record.begin(false, "h:1".into());
        record.add_received(&[7; 90]);
        record.add_received(&[8; 90]);
        let exchanges = record.finish();
        assert_eq!(exchanges[0].reply.len(), 100);
        assert_eq!((exchanges[0].received, exchanges[0].first), (180, 90));
    }
}
