//! Pure parsers and encoders of what modules send and receive (docs/protocol.md). None of them uses a socket or a
//! clock.

pub mod dialects;
mod gbk;
pub mod head;
pub mod http_target;
pub mod range;
pub mod reply;
pub mod text;
