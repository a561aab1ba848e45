//! Tasks, time and fairness.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::*;

/// A task that is busy until the flag is set, giving way between its turns; returns the count of its turns.
fn busy(stop: &Rc<Cell<bool>>) -> Rc<Cell<u64>> {
    let turns = Rc::new(Cell::new(0));
    let (stop, counted) = (Rc::clone(stop), Rc::clone(&turns));
    spawn(async move {
        while !stop.get() {
            counted.set(counted.get() + 1);
            give_way().await;
        }
    });
    turns
}

#[test]
fn who_gives_way_lets_others_and_the_kernel_have_their_turn() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let stop = Rc::new(Cell::new(false));
        let busy = [busy(&stop), busy(&stop), busy(&stop)];
        spawn(async move {
            loop {
                let bytes = receive(&server).await;
                if bytes.is_empty() {
                    break;
                }
                send(&server, &bytes).await;
            }
        });
        for _ in 0..200 {
            send(&client, b"ping").await;
            assert_eq!(receive(&client).await, b"ping");
        }
        stop.set(true);
        let turns = busy.map(|turns| turns.get());
        let (least, most) = (*turns.iter().min().unwrap(), *turns.iter().max().unwrap());
        assert!(least > 0 && most - least <= 1, "{turns:?}");
        // An answer takes some turns, not some hundred.
        assert!(most < 200 * 20, "{turns:?}");
    });
}

#[test]
fn tasks_that_wake_each_other_for_ever_starve_nobody_on_epoll() {
    let pinged = run(Driver::Epoll, async {
        let (client, server) = pair().await;
        let stop = Rc::new(Cell::new(false));
        for _ in 0..300 {
            let stop = Rc::clone(&stop);
            spawn(async move {
                poll_fn(|cx| {
                    if stop.get() {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            });
        }
        send(&client, b"ping").await;
        let pinged = receive(&server).await;
        stop.set(true);
        pinged
    });
    assert_eq!(pinged.unwrap(), b"ping");
}

#[test]
fn time_passes_in_order() {
    on_each(|_| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let began = Instant::now();
        for ms in [30, 10, 20, 0] {
            let order = Rc::clone(&order);
            spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                order.borrow_mut().push(ms);
            });
        }
        // One that is given up wakes nobody.
        {
            let given_up = sleep(Duration::from_millis(5));
            let mut given_up = pin!(given_up);
            assert!(poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await);
        }
        sleep(Duration::from_millis(40)).await;
        assert!(began.elapsed() >= Duration::from_millis(40));
        while order.borrow().len() < 4 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*order.borrow(), [0, 10, 20, 30]);
    });
}

#[test]
fn another_thread_wakes_a_worker_that_waits() {
    on_each(|_| async {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let (back, answers) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for n in 0..100 {
                sender.send(n).unwrap();
                // The worker is waiting again when the next comes, mostly.
                assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), n);
            }
            sender
        });
        for _ in 0..100 {
            let n: i32 = receiver.recv().await.unwrap();
            back.send(n).unwrap();
        }
        thread.join().unwrap();
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn a_waker_outlives_its_task_and_its_runtime() {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let spawned = Rc::clone(&kept);
    run(Driver::Epoll, async move {
        spawn(poll_fn(move |cx| {
            spawned.borrow_mut().push(cx.waker().clone());
            Poll::Ready(())
        }));
        give_way().await;
    })
    .unwrap();
    let waker = kept.borrow_mut().pop().unwrap();
    waker.wake_by_ref();
    run(Driver::Epoll, async {
        waker.wake_by_ref();
        give_way().await;
    })
    .unwrap();
    std::thread::spawn(move || waker.wake()).join().unwrap();
}

#[test]
fn a_task_that_panics_ends_alone() {
    on_each(|_| async {
        struct Dropped(Rc<Cell<bool>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }

        let dropped = Rc::new(Cell::new(false));
        let held = Dropped(Rc::clone(&dropped));
        spawn(async move {
            let _held = held;
            give_way().await;
            panic!("this panic is part of the test");
        });
        while !dropped.get() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}
