//! One-time links for browsers: tickets that wait to be exchanged for a cookie. In memory only: none outlives the server.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::token::Claims;

/// How long a ticket waits.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);
/// Most tickets that wait at a time.
pub const MAX_TICKETS: usize = 10_000;

const TICKET_BYTES: usize = 32;
type Secret = [u8; TICKET_BYTES];

/// The tickets of one server.
#[derive(Default)]
pub struct Tickets(Mutex<HashMap<Secret, Waiting>>);

struct Waiting {
    claims: Claims,
    until: Instant,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets([redacted])")
    }
}

/// Too many tickets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_TICKETS} links for browsers wait to be opened; the oldest expires within {} s", TICKET_LIFE.as_secs())]
pub struct TooManyTickets;

impl Tickets {
    /// A new ticket, a secret, that stands for a token with those claims.
    pub fn issue(&self, claims: Claims) -> Result<String, TooManyTickets> {
        self.issue_at(claims, Instant::now())
    }

    fn issue_at(&self, claims: Claims, now: Instant) -> Result<String, TooManyTickets> {
        let mut secret = Secret::default();
        getrandom::fill(&mut secret).expect("the kernel's random numbers cannot fail once it has booted");
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_TICKETS {
            waiting.retain(|_, ticket| now < ticket.until);
        }
        if waiting.len() >= MAX_TICKETS {
            return Err(TooManyTickets);
        }
        waiting.insert(secret, Waiting { claims, until: now + TICKET_LIFE });
        Ok(URL_SAFE_NO_PAD.encode(secret))
    }

    /// Takes a ticket for that microVM: the first time within its life, and never again.
    pub(crate) fn redeem(&self, ticket: &str, microvm: &str) -> Option<Claims> {
        self.redeem_at(ticket, microvm, Instant::now())
    }

    fn redeem_at(&self, ticket: &str, microvm: &str, now: Instant) -> Option<Claims> {
        let secret: Secret = URL_SAFE_NO_PAD.decode(ticket).ok()?.try_into().ok()?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // At the wrong door it is not used up.
        waiting.get(&secret).filter(|ticket| ticket.claims.microvm == microvm)?;
        let ticket = waiting.remove(&secret)?;
        (now < ticket.until).then_some(ticket.claims)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::token::{Kind, PortRange};

    fn claims() -> Claims {
        let (microvm, ports) = ("m".to_owned(), vec![PortRange::single(8080)]);
        Claims { microvm, kind: Kind::Auth, ports, expires_at: 9, revocation: 0 }
    }

    #[test]
    fn once_and_not_for_long() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let (one, two) = (tickets.issue_at(claims(), now).unwrap(), tickets.issue_at(claims(), now).unwrap());
        assert_ne!(one, two);
        assert_eq!(tickets.redeem_at(&one, "other", now), None, "another microVM's");
        assert_eq!(tickets.redeem_at(&one, "m", now + TICKET_LIFE - Duration::from_millis(1)), Some(claims()));
        assert_eq!(tickets.redeem_at(&one, "m", now), None, "used");
        assert_eq!(tickets.redeem_at(&two, "m", now + TICKET_LIFE), None, "expired");
        for wrong in ["", "x", "AAAA", &"A".repeat(43), &"A".repeat(9000), "ü"] {
            assert_eq!(tickets.redeem_at(wrong, "m", now), None, "{wrong}");
        }
        assert!(!format!("{tickets:?}").contains(&one));
    }

    #[test]
    fn they_are_bounded() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for _ in 0..MAX_TICKETS {
            tickets.issue_at(claims(), now).unwrap();
        }
        assert_eq!(tickets.issue_at(claims(), now), Err(TooManyTickets));
        assert!(tickets.issue_at(claims(), now + TICKET_LIFE).is_ok(), "expired ones make room");
    }
}
