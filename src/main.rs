//! The program `jembatan`.

fn main() -> std::process::ExitCode {
    jembatan::cli::main()
}
