//! `cargo bench` measures each step of a check and of a packet in nanoseconds.
//!
//! `cargo bench --bench paths -- --steps CASE TIMES` does one step so often and nothing else: what
//! benches/instructions.sh counts.
#![allow(missing_docs)]
// What is wrong here ends the bench.
#![allow(clippy::expect_used)]

mod cases;

use std::process::ExitCode;

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
        _ => {
            divan::main();
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

#[divan::bench(args = CASES.iter().map(|(name, _)| *name))]
fn path(bencher: divan::Bencher<'_, '_>, case: &str) {
    let (_, ready) = CASES
        .iter()
        .find(|(name, _)| *name == case)
        .expect("one of the cases");
    let mut step = ready();
    bencher.bench_local(&mut step);
}
