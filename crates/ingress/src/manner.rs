//! What is done to the heads of a request beyond AWS's rules, as the settings say.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{cookie, tickets::Tickets};

/// What a listener does beyond AWS's, all of it off by default.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Tells the application of the client: `X-Forwarded-For`, `-Proto` and `-Host`.
    pub forwarded_headers: bool,
    /// One-time links, and cookies that stand for tokens; `None`: neither.
    pub tickets: Option<Arc<Tickets>>,
}

/// The same for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    forwarded: Option<Forwarded>,
    /// Is there a cookie of ours?
    cookie: bool,
}

#[derive(Debug, Clone, Copy)]
struct Forwarded {
    client: IpAddr,
    tls: bool,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

impl Extras {
    /// For a request of that client.
    pub(crate) fn manner(self: &Arc<Self>, peer: SocketAddr, tls: bool) -> Manner {
        let forwarded = Forwarded { client: peer.ip().to_canonical(), tls };
        Manner { forwarded: self.forwarded_headers.then_some(forwarded), cookie: self.tickets.is_some() }
    }
}

impl Manner {
    /// Goes on with a client's headers once they are fit for the application. `host` is as the client wrote it.
    pub(crate) fn towards_application(self, headers: &mut HeaderMap, host: &HeaderValue) {
        if let Some(forwarded) = self.forwarded {
            forwarded.tell(headers, host);
        }
        if self.cookie {
            cookie::hide(headers);
        }
    }

    /// Goes on with an application's headers once they are fit for the client.
    pub(crate) fn towards_client(self, headers: &mut HeaderMap) {
        if self.cookie {
            cookie::shield(headers);
        }
    }
}

impl Forwarded {
    /// The client's address goes behind what came; the other two are ours alone.
    fn tell(self, headers: &mut HeaderMap, host: &HeaderValue) {
        let own = self.client.to_string();
        let mut way: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        way.retain(|line| !line.trim_ascii().is_empty());
        way.push(own.as_bytes());
        // Valid parts joined by valid bytes are valid.
        if let Ok(way) = HeaderValue::from_bytes(&way.join(&b", "[..])) {
            headers.insert(FORWARDED_FOR, way);
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if self.tls { "https" } else { "http" }));
        headers.insert(FORWARDED_HOST, host.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn told(on: bool, peer: &str, tls: bool, sent: &[(&'static str, &'static str)]) -> Vec<String> {
        let extras = Arc::new(Extras { forwarded_headers: on, ..Extras::default() });
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let host = HeaderValue::from_static("vm.test:8443");
        extras.manner(peer.parse().unwrap(), tls).towards_application(&mut headers, &host);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_client_is_told_when_it_is_switched_on() {
        let rest = |proto: &str| ["x-forwarded-host: vm.test:8443".to_owned(), format!("x-forwarded-proto: {proto}")];
        let with = |way: &str, proto| [vec![format!("x-forwarded-for: {way}")], rest(proto).to_vec()].concat();
        assert_eq!(told(true, "10.1.2.3:99", true, &[]), with("10.1.2.3", "https"));
        assert_eq!(told(true, "[::ffff:10.1.2.3]:99", false, &[]), with("10.1.2.3", "http"));
        let sent = [
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-forwarded-for", "3.3.3.3"),
            ("x-forwarded-for", " "),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "evil.test"),
        ];
        assert_eq!(told(true, "[2001:db8::1]:9", true, &sent), with("1.1.1.1, 2.2.2.2, 3.3.3.3, 2001:db8::1", "https"));
        assert_eq!(
            told(false, "10.1.2.3:99", true, &sent[3..]),
            ["x-forwarded-host: evil.test", "x-forwarded-proto: gopher"]
        );
    }
}
