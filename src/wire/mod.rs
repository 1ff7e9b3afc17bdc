//! BYTES: pure parsers and encoders of what modules send and see (docs/protocol.md). Nothing here touches
//! a socket or a clock.

pub mod datagram;
mod gbk;
pub mod head;
mod id;
pub mod libfota3;
pub mod query;
pub mod range;
pub mod reply;
pub mod text;
pub mod updatehttp;
