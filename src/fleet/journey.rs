//! Where a device stands on its way to a release: offered → n % → delivered → confirmed, reverted or
//! silent. Pure; the time comes with each call.

/// A step of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// It was offered the release, and has nothing of it yet.
    Offered = 0,
    /// It has some of the bytes.
    Downloading = 1,
    /// It has all of them, and has not come back yet.
    Delivered = 2,
    /// It came back with the new version.
    Confirmed = 3,
    /// It came back with the old one, or an older.
    Reverted = 4,
    /// It has not come back within three of its own poll intervals.
    Silent = 5,
}

impl State {
    /// All of them, in order.
    pub const ALL: [State; 6] = [
        State::Offered,
        State::Downloading,
        State::Delivered,
        State::Confirmed,
        State::Reverted,
        State::Silent,
    ];

    /// Its name in the journal, the API and the metrics.
    pub fn word(self) -> &'static str {
        match self {
            State::Offered => "offered",
            State::Downloading => "downloading",
            State::Delivered => "delivered",
            State::Confirmed => "confirmed",
            State::Reverted => "reverted",
            State::Silent => "silent",
        }
    }

    /// The state of this name.
    pub fn of_word(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }
}
