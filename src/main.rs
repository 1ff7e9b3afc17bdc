//! The program `luat-ota`: passes the arguments to the library and returns its exit status.

fn main() -> std::process::ExitCode {
    luat_ota::cli::main()
}
