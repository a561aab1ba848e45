//! The comparison bench: ntlmfront, nginx, HAProxy and a relay that knows no HTTP, under the same load on the same cores.
//!
//! `compare` is what people run; see `bench/README.md`. It starts the other commands of this program as processes of their
//! own: the origin, the floor, and every contender by way of `launch`.

#![forbid(unsafe_code)]

mod cli;
mod compare;
mod contender;
mod cores;
mod floor;
mod listen;
mod load;
mod login;
mod measure;
mod origin;
mod process;
mod report;
mod scenario;
mod schedule;
mod stats;
mod stream;
mod tls;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Compare(args) => compare::run(&args),
        Command::Scenarios => {
            for scenario in scenario::all() {
                println!("{:20} {}", scenario.name, scenario.about);
            }
            Ok(true)
        }
        Command::Floor(args) => floor::run(&args).map(|()| true),
        Command::Origin(args) => origin::run(&args).map(|()| true),
        Command::Launch(args) => cores::launch(&args).map(|never| match never {}),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
