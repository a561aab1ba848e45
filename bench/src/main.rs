//! The comparison bench. Its scenarios come with their own change; until then the command says so and fails.

fn main() -> std::process::ExitCode {
    eprintln!("bench: no scenario is implemented yet");
    std::process::ExitCode::FAILURE
}
