//! Connections to an application that a client's next request may use again.
//!
//! They belong to the client's own connection: what one client sent never shares a connection with another's request, so
//! that a head which an application reads differently than we do can harm nobody else. And they are kept for a moment only.
//! An application that serves one connection at a time (Python's `HTTPServer` with HTTP/1.1, for one) is blocked by one that
//! nobody uses; the next requests of a busy client come within that moment.
//!
//! Where even the moment is too long, the port says so: a request on a new connection that waits for its answer has all idle
//! ones of its port closed, and if there were any, none is kept for a while. Until the application is seen to serve several
//! connections at once: then nothing is in its way. See [`Door`].

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use crate::upstream::Line;

/// How long a connection is kept that nobody uses.
const KEEP: Duration = Duration::from_millis(100);
/// Requests on one connection; then the application may look after somebody else.
const MAX_USES: u32 = 100;
/// Idle connections of one client at a time: an HTTP/2 client has many requests at once.
const MAX_KEPT: usize = 32;
/// A request on a new connection that has waited so long may be waiting for an idle one to end.
const PATIENCE: Duration = Duration::from_millis(25);
/// For how long nothing is kept, once that was so.
const SOLITUDE: Duration = Duration::from_secs(10);
/// Connections that an application must be seen to serve at once to count as one that serves any number.
const SEVERAL: u32 = 8;

/// The idle connections of one client.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<Line>>);

impl Kept {
    /// One that leads to this port, if it has not ended. A request that must not be sent twice (not `harmless`) gets one only
    /// of an application that keeps connections: one that ends each without a word may do so just now.
    pub(crate) fn take(&self, door: &Arc<Door>, harmless: bool) -> Option<Line> {
        if !harmless && !door.keeps.load(Relaxed) {
            return None;
        }
        let mut lines = self.lines();
        lines.retain(|line| !line.is_over());
        let at = lines.iter().rposition(|line| line.leads_to(door) && line.use_again())?;
        Some(lines.swap_remove(at))
    }

    /// Keeps a connection whose answer is complete, if it is of use.
    pub(crate) fn put(&self, line: Line) {
        let mut lines = self.lines();
        let door = line.door();
        if lines.len() < MAX_KEPT && line.uses() < MAX_USES && door.lets_keep(door.millis()) && line.set_idle() {
            lines.push(line);
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One port of one microVM, while there is a request for it or a connection to it.
#[derive(Debug)]
pub(crate) struct Door {
    doors: Weak<Doors>,
    microvm: String,
    port: u16,
    began: Instant,
    /// Open connections on which the application has answered.
    answered: AtomicU32,
    /// The most of them at a time.
    at_once: AtomicU32,
    /// Requests on new connections that have waited for longer than [`PATIENCE`].
    impatient: AtomicU32,
    /// Was a second request answered on a connection, or did one stay open for as long as we keep it?
    keeps: AtomicBool,
    /// Tells idle connections to end.
    clear: Notify,
    /// Milliseconds after `began`; until then nothing is kept.
    alone_until: AtomicU64,
}

impl Door {
    fn millis(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn serves_several(&self) -> bool {
        self.at_once.load(Relaxed) >= SEVERAL
    }

    fn lets_keep(&self, now: u64) -> bool {
        let nobody_waits = self.impatient.load(Relaxed) == 0 && now >= self.alone_until.load(Relaxed);
        nobody_waits || self.serves_several()
    }

    /// Waits for the answer to a request on a new connection.
    async fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        match timeout(PATIENCE, answer.as_mut()).await {
            Ok(answer) => answer,
            Err(_) if self.serves_several() => answer.await,
            Err(_) => {
                let _impatient = Impatient::new(self);
                answer.await
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(doors) = self.doors.upgrade() {
            doors.forget(&self.microvm, self.port);
        }
    }
}

/// A request that waits longer than it should.
struct Impatient<'a>(&'a Door);

impl<'a> Impatient<'a> {
    fn new(door: &'a Door) -> Self {
        door.impatient.fetch_add(1, Relaxed);
        door.clear.notify_waiters();
        Impatient(door)
    }
}

impl Drop for Impatient<'_> {
    fn drop(&mut self) {
        self.0.impatient.fetch_sub(1, Relaxed);
    }
}

/// The doors that are in use, by microVM.
#[derive(Debug, Default)]
pub(crate) struct Doors(Mutex<HashMap<String, Ports>>);

type Ports = Vec<(u16, Weak<Door>)>;

impl Doors {
    /// The one of that port.
    pub(crate) fn of(self: &Arc<Self>, microvm: &str, port: u16) -> Arc<Door> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = doors.get(microvm).and_then(|ports| ports.iter().find(|(known, _)| *known == port));
        if let Some(door) = known.and_then(|(_, door)| door.upgrade()) {
            return door;
        }
        let door = Arc::new(Door {
            doors: Arc::downgrade(self),
            microvm: microvm.to_owned(),
            port,
            began: Instant::now(),
            answered: AtomicU32::new(0),
            at_once: AtomicU32::new(0),
            impatient: AtomicU32::new(0),
            keeps: AtomicBool::new(false),
            clear: Notify::new(),
            alone_until: AtomicU64::new(0),
        });
        let ports = doors.entry(microvm.to_owned()).or_default();
        ports.retain(|(known, _)| *known != port);
        ports.push((port, Arc::downgrade(&door)));
        door
    }

    /// Forgets a door that is gone, unless there is a new one in its place.
    fn forget(&self, microvm: &str, port: u16) {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ports) = doors.get_mut(microvm) else { return };
        ports.retain(|(known, door)| *known != port || door.strong_count() > 0);
        if ports.is_empty() {
            doors.remove(microvm);
        }
    }
}

/// Whether a connection is in use, as its holder and the task that drives it agree.
#[derive(Debug)]
pub(crate) struct Idleness {
    door: Arc<Door>,
    answered: AtomicBool,
    /// [`IN_USE`], [`OVER`], or since when it is idle, in milliseconds of its door's clock, [`FIRST`] being the first.
    state: AtomicU64,
}

impl Drop for Idleness {
    fn drop(&mut self) {
        self.over();
    }
}

const IN_USE: u64 = 0;
const OVER: u64 = 1;
const FIRST: u64 = 2;

impl Idleness {
    /// In use.
    pub(crate) fn new(door: Arc<Door>) -> Self {
        Idleness { door, answered: AtomicBool::new(false), state: AtomicU64::new(IN_USE) }
    }

    /// Waits for the first answer on it.
    pub(crate) async fn first<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let answer = self.door.wait(answer).await;
        if answer.is_ok() && !self.answered.swap(true, Relaxed) {
            let answered = self.door.answered.fetch_add(1, Relaxed) + 1;
            self.door.at_once.fetch_max(answered, Relaxed);
        }
        answer
    }

    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// A further request was answered on it.
    pub(crate) fn answered_again(&self) {
        self.door.keeps.store(true, Relaxed);
    }

    /// From now on; false when the connection has ended.
    pub(crate) fn begin(&self) -> bool {
        self.begin_at(self.door.millis())
    }

    fn begin_at(&self, now: u64) -> bool {
        self.state.compare_exchange(IN_USE, now + FIRST, Relaxed, Relaxed).is_ok()
    }

    /// In use again; false when the connection has ended.
    pub(crate) fn end(&self) -> bool {
        let since = self.state.load(Relaxed);
        since >= FIRST && self.state.compare_exchange(since, IN_USE, Relaxed, Relaxed).is_ok()
    }

    /// The connection has ended.
    pub(crate) fn over(&self) {
        self.state.store(OVER, Relaxed);
        if self.answered.swap(false, Relaxed) {
            self.door.answered.fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.load(Relaxed) == OVER
    }

    /// Resolves when it has been idle for too long, or is in the way.
    pub(crate) async fn ends(&self) {
        let mut wait = Some(KEEP);
        while let Some(most) = wait {
            let in_the_way = timeout(most, self.door.clear.notified()).await.is_ok();
            wait = self.look(self.door.millis(), in_the_way);
        }
    }

    /// When to look again; `None` when it has ended, now or before.
    fn look(&self, now: u64, in_the_way: bool) -> Option<Duration> {
        let since = self.state.load(Relaxed);
        let idle = Duration::from_millis((now + FIRST).saturating_sub(since));
        match since {
            OVER => return None,
            IN_USE => return Some(KEEP),
            _ if !in_the_way && idle < KEEP => return Some(KEEP - idle),
            _ => {}
        }
        if self.state.compare_exchange(since, OVER, Relaxed, Relaxed).is_err() {
            return Some(KEEP);
        }
        if in_the_way {
            self.door.alone_until.fetch_max(now + SOLITUDE.as_millis() as u64, Relaxed);
        } else {
            self.door.keeps.store(true, Relaxed);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const KEEP_MS: u64 = KEEP.as_millis() as u64;
    const SOLITUDE_MS: u64 = SOLITUDE.as_millis() as u64;

    #[test]
    fn nothing_stays_idle_for_long() {
        let doors = Arc::new(Doors::default());
        let idleness = Idleness::new(doors.of("a", 80));
        assert_eq!(idleness.look(10 * KEEP_MS, false), Some(KEEP), "it is in use");
        assert!(!idleness.end() && idleness.begin_at(1000) && !idleness.begin_at(1000));
        assert_eq!(idleness.look(1000 + KEEP_MS - 1, false), Some(MS));
        assert!(idleness.end() && idleness.begin_at(1000 + KEEP_MS), "used in between");
        assert_eq!(idleness.look(1000 + KEEP_MS, false), Some(KEEP));
        assert_eq!(idleness.look(1000 + 2 * KEEP_MS, false), None);
        assert!(!idleness.end() && !idleness.begin() && idleness.is_over(), "too late");
        assert!(idleness.door().lets_keep(1000 + 2 * KEEP_MS) && idleness.door().keeps.load(Relaxed));
    }

    #[test]
    fn what_is_in_the_way_ends_at_once_and_nothing_follows_for_a_while() {
        let doors = Arc::new(Doors::default());
        let [idle, used] = [(); 2].map(|()| Idleness::new(doors.of("a", 80)));
        assert!(idle.begin_at(1000));
        assert_eq!((idle.look(1000, true), used.look(1000, true)), (None, Some(KEEP)));
        assert!(!used.door().keeps.load(Relaxed), "it was not left to end by itself");
        assert!(!used.door().lets_keep(1000 + SOLITUDE_MS - 1) && used.door().lets_keep(1000 + SOLITUDE_MS));
    }

    #[tokio::test]
    async fn a_request_that_waits_ends_what_is_idle_on_its_port() {
        let doors = Arc::new(Doors::default());
        let (door, idle) = (doors.of("a", 80), Idleness::new(doors.of("a", 80)));
        assert!(idle.begin_at(u64::MAX / 2), "it is not the time that ends it");
        let mut kept_meanwhile = true;
        tokio::select! {
            biased;
            () = door.wait(std::future::pending()) => {}
            () = async { idle.ends().await; kept_meanwhile = door.lets_keep(u64::MAX) } => {}
        }
        assert!(!kept_meanwhile && door.lets_keep(u64::MAX), "nothing is kept as long as it waits");
        assert_eq!(door.wait(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn nothing_is_in_the_way_of_who_serves_several() {
        let doors = Arc::new(Doors::default());
        let door = doors.of("a", 80);
        let mut lines = Vec::new();
        for count in 1..=SEVERAL {
            assert!(!door.serves_several());
            let line = Idleness::new(door.clone());
            line.first(async { Ok::<_, ()>(()) }).await.expect("answered");
            assert_eq!(door.answered.load(Relaxed), count);
            lines.push(line);
        }
        let failed = Idleness::new(door.clone());
        failed.first(async { Err::<(), _>(()) }).await.expect_err("failed");
        assert_eq!(door.answered.load(Relaxed), SEVERAL);
        assert!(lines[0].begin_at(u64::MAX / 2));
        tokio::select! {
            () = lines[0].ends() => panic!("they are served at once"),
            _ = timeout(4 * PATIENCE, door.wait(std::future::pending::<()>())) => {}
        }
        assert!(door.lets_keep(0));
        lines[0].over();
        lines[0].over();
        drop(lines);
        assert_eq!(door.answered.load(Relaxed), 0);
    }

    #[test]
    fn doors_are_forgotten() {
        let doors = Arc::new(Doors::default());
        let (one, same, other) = (doors.of("a", 80), doors.of("a", 80), doors.of("a", 81));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        drop((one, same, other));
        assert!(doors.0.lock().expect("lock").is_empty());
    }
}
