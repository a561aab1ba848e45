//! Starting and what is left of it: daemons, refused starts, addresses, rights, workers.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::front::{Front, PATIENCE, eventually};
use crate::prefix::{
    HELLO, Prefix, Ran, Running, free_address, get, is_root, nobody, nobodys_group, run,
};

/// A server on a fixed address.
fn hello_on(address: SocketAddr) -> String {
    HELLO.replace("127.0.0.1:0", &address.to_string())
}

/// One line on standard error, status 1.
#[track_caller]
fn assert_refused(ran: &Ran, message: &str) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stderr, format!("ntlmfront: [emerg] {message}\n"));
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_daemon_is_ready_when_its_starter_ends() {
    let prefix = Prefix::with("worker_processes 2;", HELLO);
    let before = prefix.files();
    for round in 0..20 {
        let _ = fs::remove_file(prefix.path().join("logs/error.log"));
        let daemon = prefix.daemon();
        let address = prefix.listening()[0];
        assert_eq!(get(address, "/").unwrap(), (200, "hello".into()), "{round}");
        assert!(daemon.is_running());
        let control = ["stop", "quit"][round % 2];
        assert_eq!(prefix.run(&["-s", control]).code, Some(0));
        daemon.wait();
        assert!(get(address, "/").is_err());
        let mut left = prefix.files();
        left.retain(|file| file != "logs/error.log");
        assert_eq!(
            left, before,
            "the pid file is gone, and nothing else is left"
        );
    }
}

#[test]
fn a_daemon_can_be_told_anything_from_its_first_moment() {
    let prefix = Prefix::with("worker_processes 1;", HELLO);
    for (signal, said) in [
        (Signal::SIGHUP, "reconfigured"),
        (Signal::SIGUSR1, "reopening logs"),
        (Signal::SIGQUIT, ": exit"),
        (Signal::SIGTERM, ": exit"),
    ] {
        let _ = fs::remove_file(prefix.path().join("logs/error.log"));
        let started = Running::start(prefix.front(&[]));
        // As soon as its number is there, long before it is ready: without a pause in between.
        let deadline = Instant::now() + PATIENCE;
        while !prefix.read("logs/front.pid").ends_with('\n') {
            assert!(Instant::now() < deadline, "no pid file");
            std::hint::spin_loop();
        }
        let daemon = prefix.running_daemon();
        kill(Pid::from_raw(daemon.pid()), signal).unwrap();
        assert_eq!(started.wait().code, Some(0), "{signal}");
        eventually(said, || prefix.error_log().contains(said).then_some(()));
        if said != ": exit" {
            assert_eq!(get(prefix.listening()[0], "/").unwrap().0, 200);
            assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
        }
        daemon.wait();
    }
}

#[test]
fn a_daemon_is_told_by_the_same_binary() {
    let prefix = Prefix::with("", HELLO);
    let daemon = prefix.daemon();
    for (control, said) in [("reload", "reconfigured"), ("reopen", "reopening logs")] {
        let ran = prefix.run(&["-s", control]);
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "", ""));
        eventually(said, || prefix.error_log().contains(said).then_some(()));
    }
    assert_eq!(prefix.run(&["-s", "quit"]).code, Some(0));
    daemon.wait();
    let again = prefix.run(&["-s", "quit"]);
    assert_eq!(again.code, Some(1), "nobody is there any more");
}

#[test]
fn a_daemon_holds_nothing_of_its_starter() {
    let prefix = Prefix::with("", HELLO);
    let daemon = prefix.daemon();
    let link = |fd: u32| {
        let path = fs::read_link(format!("/proc/{}/fd/{fd}", daemon.pid()));
        path.unwrap().display().to_string()
    };
    assert_eq!(link(0), "/dev/null");
    assert_eq!(link(1), "/dev/null");
    assert_eq!(link(2), prefix.name("logs/error.log"));
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(daemon.pid())));
    assert_eq!(session.unwrap().as_raw(), daemon.pid());
    // Where the log went, so goes what a panic would print.
    fs::rename(
        prefix.path().join("logs/error.log"),
        prefix.path().join("logs/old.log"),
    )
    .unwrap();
    assert_eq!(prefix.run(&["-s", "reopen"]).code, Some(0));
    eventually("standard error follows", || {
        (link(2) == prefix.name("logs/error.log")).then_some(())
    });
}

#[test]
fn in_front_the_pid_is_that_of_the_process_started() {
    let prefix = Prefix::with("daemon off; worker_processes 2;", HELLO);
    let front = Running::start(prefix.front(&[]));
    let address = eventually("the front listens", || {
        prefix
            .error_log()
            .contains("workers on ")
            .then(|| prefix.listening()[0])
    });
    assert_eq!(prefix.read("logs/front.pid"), format!("{}\n", front.pid()));
    assert_eq!(get(address, "/").unwrap().0, 200);
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    let ran = front.wait();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "", ""));
    assert_eq!(prefix.files(), ["front.conf", "logs/error.log"]);
}

#[test]
fn a_start_that_fails_says_why_in_one_line_and_leaves_no_pid_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let in_use = format!("bind() to {} failed (98: Address already in use)", taken.1);
    let cases = [
        ("", hello_on(taken.1), &*in_use),
        (
            "user no-such-user;",
            HELLO.into(),
            "getpwnam(\"no-such-user\") failed",
        ),
        (
            "user root no-such-group;",
            HELLO.into(),
            "getgrnam(\"no-such-group\") failed",
        ),
        (
            "",
            "access_log no/a.log; server { listen 127.0.0.1:0; }".into(),
            "open() \"PREFIX/no/a.log\" failed (2: No such file or directory)",
        ),
        (
            "",
            "server { listen unix:PREFIX/no/socket; }".into(),
            "bind() to unix:PREFIX/no/socket failed (2: No such file or directory)",
        ),
    ];
    for (main, http, message) in cases {
        if main.starts_with("user") && !is_root() {
            continue;
        }
        for daemon in ["on", "off"] {
            let prefix = Prefix::new();
            let here = |text: &str| text.replace("PREFIX/", &prefix.name(""));
            prefix.configure(&format!("daemon {daemon}; {main}"), &here(&http));
            assert_refused(&prefix.run(&[]), &here(message));
            let mut left = prefix.files();
            left.retain(|file| file != "logs/access.log");
            assert_eq!(left, ["front.conf", "logs/error.log"], "{message}");
            let log = prefix.error_log();
            assert!(log.contains(&format!(": {}\n", here(message))), "{log}");
        }
    }
}

#[test]
fn logs_and_pid_files_without_permission_keep_it_from_starting() {
    if !is_root() {
        return;
    }
    for daemon in ["on", "off"] {
        let prefix = Prefix::with(&format!("daemon {daemon};"), HELLO);
        let log = prefix.name("logs/error.log");
        assert_refused(
            &run(prefix.front_as_nobody(&[])),
            &format!("open() \"{log}\" failed (13: Permission denied)"),
        );
        // A log that everyone may write, but a directory that not.
        prefix.write("logs/error.log", "");
        fs::set_permissions(&log, Permissions::from_mode(0o666)).unwrap();
        let pid = prefix.name("logs/front.pid");
        assert_refused(
            &run(prefix.front_as_nobody(&[])),
            &format!("open() \"{pid}\" failed (13: Permission denied)"),
        );
    }
}

#[test]
fn a_port_that_another_program_has_is_in_use() {
    // One that would share, too.
    for share in [false, true] {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_port(share).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(1).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let prefix = Prefix::with("worker_processes 2;", &hello_on(address));
        assert_refused(
            &prefix.run(&[]),
            &format!("bind() to {address} failed (98: Address already in use)"),
        );
    }
}

#[test]
fn a_second_front_on_the_port_is_refused_and_the_first_serves_on() {
    let prefix = Prefix::with("worker_processes 2;", HELLO);
    let daemon = prefix.daemon();
    let address = prefix.listening()[0];
    prefix.configure("worker_processes 2;", &hello_on(address));
    assert_refused(
        &prefix.run(&[]),
        &format!("bind() to {address} failed (98: Address already in use)"),
    );
    assert_eq!(
        prefix.read("logs/front.pid").trim(),
        daemon.pid().to_string(),
        "the pid file of the one that serves"
    );
    // Every connection would tell if the port were shared: the other one's would be refused or hang.
    for _ in 0..20 {
        assert_eq!(get(address, "/").unwrap(), (200, "hello".into()));
    }
}

#[test]
fn of_two_that_start_at_once_on_a_port_one_gets_it() {
    // Each of them takes as long as the one that loses tries again.
    for _ in 0..3 {
        let address = free_address();
        let prefixes = [0; 2].map(|_| Prefix::with("worker_processes 2;", &hello_on(address)));
        let starts = prefixes
            .each_ref()
            .map(|prefix| Running::start(prefix.front(&[])));
        let ran = starts.map(Running::wait);
        let mut codes = ran.each_ref().map(|ran| ran.code);
        let daemons: Vec<_> = prefixes
            .iter()
            .zip(&ran)
            .filter(|(_, ran)| ran.code == Some(0))
            .map(|(prefix, _)| prefix.running_daemon())
            .collect();
        codes.sort();
        assert_eq!(codes, [Some(0), Some(1)], "{ran:?}");
        assert_eq!(daemons.len(), 1);
        let refused = ran.iter().find(|ran| ran.code == Some(1)).unwrap();
        assert_refused(
            refused,
            &format!("bind() to {address} failed (98: Address already in use)"),
        );
    }
}

#[test]
fn a_privileged_port_is_refused_to_a_user() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if !is_root() || first.trim().parse::<u16>().unwrap() < 1024 {
        println!("no port is privileged: not tested");
        return;
    }
    let prefix = Prefix::with("", &hello_on("127.0.0.1:1023".parse().unwrap()));
    fs::set_permissions(prefix.path().join("logs"), Permissions::from_mode(0o777)).unwrap();
    assert_refused(
        &run(prefix.front_as_nobody(&[])),
        "bind() to 127.0.0.1:1023 failed (13: Permission denied)",
    );
    let tested = run(prefix.front_as_nobody(&["-t"]));
    assert_eq!(tested.code, Some(1), "-t says so too: {tested:?}");
}

#[test]
fn any_user_can_run_it() {
    if !is_root() {
        return;
    }
    let prefix = Prefix::with("user somebody-else;", HELLO);
    fs::set_permissions(prefix.path().join("logs"), Permissions::from_mode(0o777)).unwrap();
    let ran = run(prefix.front_as_nobody(&[]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let daemon = prefix.running_daemon();
    assert_eq!(get(prefix.listening()[0], "/").unwrap().0, 200);
    assert!(
        prefix.error_log().contains("[warn]")
            && prefix
                .error_log()
                .contains("the \"user\" directive makes sense only"),
        "{}",
        prefix.error_log()
    );
    assert_eq!(run(prefix.front_as_nobody(&["-s", "quit"])).code, Some(0));
    daemon.wait();
}

#[test]
fn a_kernel_without_io_uring_is_one_clear_line() {
    for (errno, words) in [
        (libc::EPERM, "io_uring cannot be used: "),
        (
            libc::ENOSYS,
            "does not offer what is needed (38: Function not implemented)",
        ),
    ] {
        for daemon in ["on", "off"] {
            let prefix = Prefix::with(&format!("daemon {daemon};"), HELLO);
            let mut command = prefix.front(&["--io", "uring"]);
            refuse_io_uring(&mut command, errno);
            let ran = run(command);
            assert_eq!(ran.code, Some(1), "{ran:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
            assert!(
                ran.stderr
                    .starts_with("ntlmfront: [emerg] io_uring cannot be used: ")
            );
            assert!(ran.stderr.contains(words), "{ran:?}");
            assert!(!prefix.files().contains(&"logs/front.pid".to_owned()));
            let mut command = prefix.front(&["-t"]);
            refuse_io_uring(&mut command, errno);
            assert_eq!(run(command).code, Some(0), "the configuration is right");
        }
    }
}

#[test]
fn a_kernel_without_io_uring_is_served_on_epoll_with_one_warning() {
    let prefix = Prefix::with("", HELLO);
    let mut command = prefix.front(&[]);
    refuse_io_uring(&mut command, libc::EPERM);
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let daemon = prefix.running_daemon();
    assert_eq!(get(prefix.listening()[0], "/").unwrap().0, 200);
    let warning = "io_uring cannot be used: ";
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(
        ran.stderr
            .starts_with(&format!("ntlmfront: [warn] {warning}")),
        "{ran:?}"
    );
    let log = prefix.error_log();
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    assert!(log.contains("workers on epoll"), "{log}");
    assert_eq!(prefix.run(&["-s", "quit"]).code, Some(0));
    daemon.wait();
}

/// Makes `io_uring_setup` fail in the command as a container's sandbox or an old kernel would.
fn refuse_io_uring(command: &mut Command, errno: i32) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("a code of 16 bits"),
        jt,
        jf,
        k,
    };
    let nr = u32::try_from(libc::SYS_io_uring_setup).expect("a number");
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("a number");
    // If the call's number, the first word of what is filtered, is io_uring_setup's: this error. All else may pass.
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, nr),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: 4,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: prctl copies the program, which is on the stack, and the filter, which the closure owns, before it
        // returns. The other arguments are numbers.
        #[allow(unsafe_code)]
        let refused = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) != 0
        };
        if refused {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and takes no lock and no memory.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(install);
    }
}

#[test]
fn every_thread_becomes_the_user() {
    if !is_root() {
        return;
    }
    let (uid, gid) = nobody();
    let prefix = Prefix::with(
        &format!("user nobody {}; worker_processes 3;", nobodys_group()),
        HELLO,
    );
    let daemon = prefix.daemon();
    let ids = |word: &str, id: u32| format!("{word}:\t{id}\t{id}\t{id}\t{id}");
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains(&ids("Uid", uid)), "{status}");
        assert!(status.contains(&ids("Gid", gid)), "{status}");
        assert!(status.contains(&format!("Groups:\t{gid} \n")), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        threads += 1;
    }
    assert!(threads > 3);
    assert_eq!(get(prefix.listening()[0], "/").unwrap().0, 200);
    // Its directory is root's: what cannot be removed names nobody any more.
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    daemon.wait();
    assert_eq!(prefix.read("logs/front.pid"), "");
}

/// The threads of a process that are workers, with their status files.
fn workers(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| {
            let task = task.unwrap().path();
            let name = fs::read_to_string(task.join("comm")).ok()?;
            name.starts_with("worker-")
                .then(|| fs::read_to_string(task.join("status")).ok())?
        })
        .collect()
}

/// How many sockets listen on a port of 127.0.0.1.
fn listening_sockets(address: SocketAddr) -> usize {
    let wanted = format!("0100007F:{:04X} 00000000:0000 0A ", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().filter(|line| line.contains(&wanted)).count()
}

#[test]
fn each_worker_has_a_core_and_a_listening_socket() {
    let cores = ntlmfront::process::allowed_cores().unwrap().len();
    let front = Front::start_main("worker_processes auto;", HELLO);
    let workers = workers(front.pid());
    assert_eq!(workers.len(), ntlmfront::process::core_count());
    assert_eq!(listening_sockets(front.addr(0)), workers.len());
    if workers.len() != cores {
        println!("fewer workers than cores: they are not pinned");
        return;
    }
    let mut pinned: Vec<&str> = workers
        .iter()
        .flat_map(|status| status.lines())
        .filter_map(|line| line.strip_prefix("Cpus_allowed_list:\t"))
        .collect();
    pinned.sort_unstable();
    pinned.dedup();
    assert_eq!(pinned.len(), cores, "{pinned:?}");
    assert!(
        pinned.iter().all(|core| core.parse::<usize>().is_ok()),
        "{pinned:?}"
    );
}

#[test]
fn all_workers_accept() {
    let front = Front::start_main(
        "worker_processes 3;",
        "log_format thread $connection; access_log logs/access.log thread;
         server { listen 127.0.0.1:0; location / { return 204; } }",
    );
    assert_eq!(workers(front.pid()).len(), 3);
    assert_eq!(listening_sockets(front.addr(0)), 3);
    // A connection's number says whose it is. The kernel chooses by the client's port.
    eventually("each of them had a client", || {
        get(front.addr(0), "/").unwrap();
        let log = front.access_log();
        let mut seen: Vec<usize> = log
            .lines()
            .filter_map(|line| line.parse::<usize>().ok())
            .map(|number| (number - 1) % 3)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        (seen == [0, 1, 2]).then_some(())
    });
}

#[test]
fn the_limit_of_descriptors_is_set() {
    let limits = |pid: i32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap();
        soft.parse::<u64>().unwrap()
    };
    let prefix = Prefix::with("worker_rlimit_nofile 777;", HELLO);
    let daemon = prefix.daemon();
    assert_eq!(limits(daemon.pid()), 777);
    prefix.configure("worker_rlimit_nofile 888;", HELLO);
    assert_eq!(prefix.run(&["-s", "reload"]).code, Some(0));
    eventually("the new limit", || {
        (limits(daemon.pid()) == 888).then_some(())
    });
}

#[test]
fn a_unix_socket_is_removed_and_a_stale_one_replaced() {
    let prefix = Prefix::new();
    let socket = prefix.path().join("socket");
    prefix.configure(
        "",
        &format!(
            "server {{ listen unix:{}; location / {{ return 204; }} }}",
            socket.display()
        ),
    );
    for end in ["quit", "kill", "stop"] {
        let daemon = prefix.daemon();
        std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let second = prefix.run(&[]);
        assert_refused(
            &second,
            &format!(
                "bind() to unix:{} failed (98: Address already in use)",
                socket.display()
            ),
        );
        assert!(socket.exists(), "the first one's");
        if end == "kill" {
            drop(daemon);
            eventually("nobody accepts", || {
                std::os::unix::net::UnixStream::connect(&socket)
                    .is_err()
                    .then_some(())
            });
            assert!(socket.exists());
        } else {
            assert_eq!(prefix.run(&["-s", end]).code, Some(0));
            daemon.wait();
            assert!(!socket.exists());
        }
    }
}
