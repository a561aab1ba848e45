//! Tells the service manager that the process is well, as long as the control thread and every worker get on with their work.
//! One that hangs ends the messages, and the service manager starts the process anew.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::process::notify;
use crate::proxy::Command;

/// Begins it on the control thread, if the service manager wants it.
pub(super) fn start(workers: Vec<UnboundedSender<Command>>) {
    if let Some(limit) = notify::watchdog_limit() {
        tokio::spawn(watch(workers, limit / 2));
    }
}

async fn watch(workers: Vec<UnboundedSender<Command>>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        all_answer(&workers, interval).await;
        // What a start says in the log: that nobody is there to hear it.
        let _ = notify::watchdog();
    }
}

/// Asks every worker, and waits for all their answers. A worker that has ended needs to say nothing.
async fn all_answer(workers: &[UnboundedSender<Command>], patience: Duration) {
    let answers: Vec<_> = workers
        .iter()
        .map(|worker| {
            let (asker, answer) = oneshot::channel();
            let _ = worker.send(Command::Answer(asker));
            answer
        })
        .collect();
    for (number, mut answer) in answers.into_iter().enumerate() {
        if tokio::time::timeout(patience, &mut answer).await.is_ok() {
            continue;
        }
        // In the journal, where the service manager will say what it does about it.
        let millis = patience.as_millis();
        eprintln!("ntlmfront: [alert] worker {number} has not answered for {millis} ms");
        let _ = answer.await;
    }
}
