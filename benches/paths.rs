//! Measurement of each step of a check and of a packet in nanoseconds (`cargo bench`): the median and the fastest of
//! many runs. `cargo bench -- CASE` measures the cases whose name contains CASE.
//!
//! `cargo bench --bench paths -- --steps CASE TIMES` runs one step TIMES times and nothing else;
//! benches/instructions.sh counts its instructions.
#![allow(missing_docs)]
// An error here ends the bench.
#![allow(clippy::expect_used, clippy::panic)]

mod cases;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cases::CASES;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--steps", case, times, ..] => steps(case, times),
        ["--cases", ..] => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
            ExitCode::SUCCESS
        }
        words => {
            let wanted = words.iter().find(|word| !word.starts_with("--"));
            measure(wanted.copied().unwrap_or_default());
            ExitCode::SUCCESS
        }
    }
}

fn steps(case: &str, times: &str) -> ExitCode {
    let found = CASES.iter().find(|(name, _)| *name == case);
    let (Some((_, ready)), Ok(times)) = (found, times.parse::<u32>()) else {
        eprintln!("--steps CASE TIMES; the cases are listed by --cases");
        return ExitCode::FAILURE;
    };
    let mut step = ready();
    (0..times).for_each(|_| step());
    ExitCode::SUCCESS
}

/// Number of runs of each case, and minimum duration of a run.
const RUNS: usize = 51;
const RUN: Duration = Duration::from_millis(4);

fn measure(wanted: &str) {
    println!("{:24}{:>12}{:>12}", "case", "median ns", "fastest ns");
    for (name, ready) in CASES.iter().filter(|(name, _)| name.contains(wanted)) {
        let mut step = ready();
        let mut times = 1_u32;
        while run(&mut step, times) < RUN {
            times = times.saturating_mul(2);
        }
        let mut nanoseconds: Vec<f64> = (0..RUNS)
            .map(|_| run(&mut step, times).as_secs_f64() * 1e9 / f64::from(times))
            .collect();
        nanoseconds.sort_by(f64::total_cmp);
        let at = |place: usize| nanoseconds.get(place).copied().unwrap_or_default();
        println!("{name:24}{:>12.1}{:>12.1}", at(RUNS / 2), at(0));
    }
}

fn run(step: &mut cases::Step, times: u32) -> Duration {
    let began = Instant::now();
    (0..times).for_each(|_| step());
    began.elapsed()
}
