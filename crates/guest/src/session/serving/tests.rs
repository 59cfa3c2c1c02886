//! The program is a real process group, its pipes and its end are the tests'.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus},
    sync::Arc,
};

use tokio::{io::DuplexStream, sync::Semaphore, task::JoinHandle, task::spawn_blocking};

use super::*;

/// Longest time that anything here may take.
const SOON: Duration = Duration::from_secs(20);

/// A process that leads a group.
struct Program(Child);

impl Program {
    fn start(script: &str) -> Self {
        Program(Command::new("sh").args(["-c", script]).process_group(0).spawn().expect("spawn"))
    }

    fn sleeps() -> Self {
        Self::start("exec sleep 1000")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    async fn ended(mut self) -> ExitStatus {
        let pid = self.pid();
        let mut waiting = spawn_blocking(move || self.0.wait().expect("wait"));
        match timeout(SOON, &mut waiting).await {
            Ok(status) => status.expect("waits"),
            Err(_) => {
                kill_process_group(pid, Signal::KILL).expect("kill");
                panic!("{pid} did not end by itself: {:?}", waiting.await);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program's ends of its pipes.
struct Pipes {
    input: File,
    output: File,
    error: File,
}

fn pipes() -> (Ends, Pipes) {
    let [input, output, error] = [(); 3].map(|()| rustix::pipe::pipe().expect("pipe"));
    let ends = Ends::of(vec![input.1, output.0, error.0]).expect("ends");
    (ends, Pipes { input: input.0.into(), output: output.1.into(), error: error.1.into() })
}

/// The host's side.
struct Host {
    stream: DuplexStream,
    deframer: Deframer,
    exit: Option<oneshot::Sender<i32>>,
    serving: JoinHandle<io::Result<()>>,
}

impl Host {
    fn of(program: &Program, ends: Ends, timeout_ms: u32) -> Self {
        let (exit, receiver) = oneshot::channel();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("place");
        let running = Running::new(program.pid(), receiver, ends, timeout_ms, place);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(running.serve(theirs));
        Host { stream: ours, deframer: Deframer::default(), exit: Some(exit), serving }
    }

    async fn say(&mut self, input: Input<'_>) {
        self.stream.write_all(&frame(&input.write())).await.expect("says");
    }

    fn exited(&mut self, code: i32) {
        self.exit.take().expect("once").send(code).expect("somebody waits");
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.deframer.take().expect("a message") {
                return Some(message.to_vec());
            }
            let mut bytes = vec![0; 1 << 16];
            match timeout(SOON, self.stream.read(&mut bytes)).await.expect("in time").expect("reads") {
                0 => return None,
                count => self.deframer.push(&bytes[..count]),
            }
        }
    }

    async fn hears(&mut self, output: Output<'_>) {
        let message = self.next().await.expect("a message");
        assert_eq!(Output::read(&message), Ok(output));
    }

    /// Everything up to its end, in which nothing but output comes before the last message: its length, the last message.
    async fn rest(&mut self) -> (usize, Vec<u8>) {
        let mut bytes = 0;
        loop {
            let message = self.next().await.expect("a last message");
            match Output::read(&message).expect("a message") {
                Output::Stdout(data) | Output::Stderr(data) => bytes += data.len(),
                _ => {
                    assert_eq!(self.next().await, None, "it was the last");
                    return (bytes, message);
                }
            }
        }
    }

    /// Reads up to the words of a failure.
    async fn fails(mut self, word: &str) {
        loop {
            let message = self.next().await.expect("a reason");
            match Output::read(&message).expect("a message") {
                Output::Failed(why) => break assert!(why.contains(word), "{why}"),
                Output::Taken(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.next().await, None);
    }
}

fn exited(code: i32, timed_out: bool) -> Vec<u8> {
    Output::Exited(Exit { code, timed_out }).write()
}

#[tokio::test]
async fn output_is_sent_apart_and_the_end_last() {
    let (program, (ends, mut pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    pipes.output.write_all(b"out").expect("write");
    host.hears(Output::Stdout(b"out")).await;
    pipes.error.write_all(b"err").expect("write");
    host.hears(Output::Stderr(b"err")).await;
    drop(pipes);
    host.exited(7);
    assert_eq!(host.rest().await, (0, exited(7, false)));
    host.serving.await.expect("serves").expect("well");
}

#[tokio::test]
async fn what_goes_on_writing_does_not_hold_the_session() {
    let (program, (ends, pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    let mut output = pipes.output;
    // As `yes &` does, until nobody reads it.
    let writing = spawn_blocking(move || while output.write_all(&[b'y'; 4096]).is_ok() {});
    while !matches!(Output::read(&host.next().await.expect("output")), Ok(Output::Stdout(_))) {}
    host.exited(0);
    assert_eq!(timeout(SOON, host.rest()).await.expect("an end").1, exited(0, false));
    timeout(SOON, writing).await.expect("nobody reads it any more").expect("writes");
}

#[tokio::test]
async fn last_words_reach_a_host_that_reads_late() {
    let (program, (ends, mut pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    // What the way to the host holds, and a full pipe behind it; somebody else keeps the pipe open.
    let written = spawn_blocking(move || {
        pipes.output.write_all(&vec![b'x'; 128 << 10]).expect("write");
        pipes
    });
    let _pipes = written.await.expect("writes");
    host.exited(3);
    tokio::time::sleep(3 * OUTPUT_GRACE).await;
    assert_eq!(host.rest().await, (128 << 10, exited(3, false)));
}

#[tokio::test]
async fn input_is_taken_as_the_program_reads_it_and_ends() {
    let (program, (ends, mut pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    host.say(Input::Data(b"")).await;
    for _ in 0..3 {
        host.say(Input::Data(&[b'x'; 30_000])).await;
    }
    host.say(Input::End).await;
    host.say(Input::End).await;
    let reading = spawn_blocking(move || {
        let mut all = Vec::new();
        pipes.input.read_to_end(&mut all).map(|_| all)
    });
    let mut taken = 0;
    while taken < 90_000 {
        match Output::read(&host.next().await.expect("a message")) {
            Ok(Output::Taken(bytes @ 1..)) => taken += bytes,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken, 90_000);
    assert_eq!(reading.await.expect("reads").expect("well"), vec![b'x'; 90_000]);
    // Nobody reads any more: it counts as taken.
    host.say(Input::Data(b"more")).await;
    host.hears(Output::Taken(4)).await;
}

#[tokio::test]
async fn who_sends_more_than_the_credit_is_told_and_the_program_hangs_up() {
    let (program, (ends, _pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    // A pipe's worth is written; its first piece counts until all of it is.
    for piece in vec![b'x'; WINDOW_BYTES + HELD_BYTES + 1].chunks(MAX_DATA_BYTES) {
        host.say(Input::Data(piece)).await;
    }
    host.fails("more input than the 262144 bytes").await;
    assert_eq!(program.ended().await.signal(), Some(Signal::HUP.as_raw()));
}

#[tokio::test]
async fn what_is_no_message_is_told() {
    let (program, (ends, _pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    host.stream.write_all(&frame(&[99])).await.expect("writes");
    host.fails("malformed").await;
}

#[tokio::test]
async fn output_that_cannot_be_read_is_told() {
    let (program, (mut ends, _pipes)) = (Program::sleeps(), pipes());
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
    (&ours).write_all(b"never read").expect("write");
    theirs.set_nonblocking(true).expect("set");
    theirs.flush().expect("flush");
    drop(theirs); // with what it has not read: a reset
    ours.set_nonblocking(true).expect("set");
    ends.output = Arc::new(crate::sys::watch(OwnedFd::from(ours), Interest::READABLE).expect("watch"));
    Host::of(&program, ends, 0).fails("read the program's output").await;
    assert_eq!(program.ended().await.signal(), Some(Signal::HUP.as_raw()));
}

#[tokio::test]
async fn signals_reach_the_group_and_a_host_that_leaves_hangs_up() {
    let (program, (ends, _pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    host.say(Input::Signal(2)).await;
    assert_eq!(program.ended().await.signal(), Some(Signal::INT.as_raw()));
    let (program, (ends, _pipes)) = (Program::sleeps(), pipes());
    let mut host = Host::of(&program, ends, 0);
    let _exit = host.exit.take(); // it has not ended
    drop(host);
    assert_eq!(program.ended().await.signal(), Some(Signal::HUP.as_raw()));
}

#[tokio::test]
async fn a_program_whose_time_is_over_is_ended_by_force_if_need_be() {
    let run = |script: &'static str| async move {
        let (program, (ends, mut pipes)) = (Program::start(script), pipes());
        let mut host = Host::of(&program, ends, 500);
        let exit = host.exit.take().expect("once");
        let reaping = async {
            let status = program.ended().await;
            let _ = exit.send(128 + status.signal().unwrap_or_default());
        };
        // What left the group goes on writing.
        let writing = spawn_blocking(move || while pipes.output.write_all(b"y").is_ok() {});
        let ((), rest) = tokio::join!(reaping, host.rest());
        writing.await.expect("writes");
        rest.1
    };
    let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
    let (meek, stubborn) = tokio::join!(run("exec sleep 1000"), run(stubborn));
    assert_eq!((meek, stubborn), (exited(128 + 15, true), exited(128 + 9, true)));
}

#[tokio::test]
async fn the_end_of_input_ends_a_terminals_line_too() {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    for (typed, wanted) in [("abc", &b"abc"[..]), ("abc\n", b"abc\n"), ("", b"")] {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("terminal");
        grantpt(&ours).expect("grant");
        unlockpt(&ours).expect("unlock");
        let peer = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("peer");
        let program = Program::sleeps();
        let mut host = Host::of(&program, Ends::of(vec![ours]).expect("ends"), 0);
        host.say(Input::Resize(TerminalSize { cols: 90, rows: 30 })).await;
        host.say(Input::Data(typed.as_bytes())).await;
        host.say(Input::End).await;
        let reading = spawn_blocking(move || {
            let (mut peer, mut all) = (File::from(peer), Vec::new());
            peer.read_to_end(&mut all).map(|_| (all, peer))
        });
        let (all, peer) = timeout(SOON, reading).await.expect("an end").expect("reads").expect("well");
        assert_eq!(all, wanted, "{typed:?}");
        assert_eq!(rustix::termios::tcgetwinsize(&peer).expect("size").ws_col, 90);
    }
}

#[test]
fn nothing_is_no_news() {
    let inbox = Inbox::default();
    assert!(inbox.put(b""));
    let mut waiting = Box::pin(inbox.get());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(inbox.put(b"x"));
    assert_eq!(waiting.as_mut().poll(&mut context), std::task::Poll::Ready((b"x".to_vec(), false)));
}
