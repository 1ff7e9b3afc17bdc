//! Handling of a complete reply.

use std::time::Duration;

use super::http::{Answer, Target};
use super::{CODE_43_PAUSE, Generation, LuaTask, REDIRECT_PAUSE, ROUNDS, Stage};
use crate::modems::{Action, Failure, Outcome, lua};

impl LuaTask {
    /// Ends the attempt after the update has been written: the module restarts.
    pub(super) fn end_flashed(&mut self) -> Vec<Action> {
        let image = std::mem::take(&mut self.image);
        if let Some(flaw) = self.flaw.take() {
            return self.fail(Failure::FlashedGarbage(image, flaw));
        }
        if lua::is_text(&image) {
            let why = format!("the file is text: \"{}\"", lua::excerpt(&image));
            return self.fail(Failure::FlashedGarbage(image, why));
        }
        self.finish(Outcome::Updated(image))
    }

    /// Handles a reply that is complete as far as http.lua can tell.
    pub(super) fn complete(&mut self, now: Duration, answer: Answer) -> Vec<Action> {
        if self.generation.is_4g() && answer.is_200_or_206() {
            return self.complete_4g(&answer);
        }
        if answer.status == "200" {
            if answer.body.is_empty() {
                return self.empty_body();
            }
            self.image = answer.body;
            return self.end_flashed();
        }
        let is_redirect = answer.status.len() == 3 && answer.status.starts_with('3');
        if is_redirect && (answer.status != "304" || answer.location.is_some()) {
            return match &answer.location {
                Some(location) => self.redirect(now, location),
                None => self.fail(Failure::GaveUp(format!(
                    "status {} without a Location",
                    answer.status
                ))),
            };
        }
        if self.generation == Generation::Rda8910
            && answer.pieces == 1
            && lua::number_value(&answer.body, b"\"code\":") == Some(43)
        {
            self.rounds = self.rounds.saturating_add(1);
            if self.rounds >= ROUNDS {
                return self.fail(Failure::AsksEndlessly(format!(
                    "code 43: it waits {} s and asks again, endlessly",
                    CODE_43_PAUSE.as_secs()
                )));
            }
            return self.sleep(now, Stage::Sleeping, CODE_43_PAUSE);
        }
        let msg = match answer.body.len() {
            1..=200 => lua::quoted(&answer.body, b"\"msg\":"),
            _ => None,
        };
        let msg = msg.map_or(String::new(), |msg| format!(", msg {}", lua::excerpt(msg)));
        let log = format!("status {}{msg}", answer.status);
        if self.image.is_empty() {
            self.finish(Outcome::NoUpdate(log))
        } else {
            let taken = self.image.len();
            self.fail(Failure::GaveUp(format!("{log}, after {taken} bytes")))
        }
    }

    /// Handles a 200 or 206 that ended before rtos.fota_process reported 100 %.
    pub(super) fn complete_4g(&mut self, answer: &Answer) -> Vec<Action> {
        let taken = self.image.len();
        if answer.chunked {
            let image = std::mem::take(&mut self.image);
            return self.fail(Failure::FlashedGarbage(
                image,
                "chunked: each chunk is flashed as the raw bytes of the last recv".into(),
            ));
        }
        match answer.total() {
            None => self.fail(Failure::GaveUp(format!(
                "no Content-Length: rtos.fota_process was given {taken} bytes and a total of \
                 2147483647"
            ))),
            Some(0) => self.empty_body(),
            Some(total) => self.fail(Failure::GaveUp(format!(
                "the answer ended at {taken} of {total} bytes"
            ))),
        }
    }

    pub(super) fn empty_body(&mut self) -> Vec<Action> {
        self.fail(Failure::RebootLoop(
            "status 200 with an empty body: it restarts without a file, and asks again".into(),
        ))
    }

    /// Replaces the URL by the Location until the module reboots, and pauses before the request.
    pub(super) fn redirect(&mut self, now: Duration, location: &[u8]) -> Vec<Action> {
        self.hops = self.hops.saturating_add(1);
        if self.hops >= ROUNDS {
            return self.fail(Failure::AsksEndlessly(format!(
                "{} redirects in a row; it counts none of them",
                self.hops
            )));
        }
        match Target::of_location(location) {
            Ok(Some(target)) => {
                self.target = target;
                self.sleep(now, Stage::Sleeping, REDIRECT_PAUSE)
            }
            Ok(None) => self.sleep(
                now,
                Stage::UnreachableLocation(lua::excerpt(location)),
                REDIRECT_PAUSE,
            ),
            Err(why) => self.fail(Failure::GaveUp(why.into())),
        }
    }
}
