//! `FilterLogEvents`: the events of many streams, merged by time.
//!
//! The order is time, then the name of the stream, then the place in it; newest first is exactly the other way round. A token
//! is the last event that was looked at.

use std::{collections::BTreeMap, io};

use api::{
    ApiError,
    logs::{
        FilterLogEventsInput, FilterLogEventsOutput, FilterPattern, FilteredLogEvent, LogsOperation, invalid_token,
        stream_not_found,
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EVENT_BYTES, PAGE_BYTES, PAGE_EVENTS, Query, failed, limit, shown};
use crate::logs::{Event, LogFile};

/// Most bytes that one request looks at; a page may end empty, with a token.
const SCAN_BYTES: u64 = 32 * 1024 * 1024;
/// Most streams that are open at a time.
const MAX_OPEN: usize = 256;

/// An event and its stream.
type Found = (String, Event);

/// An event's place in the order: time, stream, offset.
type Key = (i64, String, u64);

/// The last event that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    t: i64,
    stream: String,
    /// Behind it in the direction of reading.
    offset: u64,
}

impl Query {
    /// A page of a group's events.
    ///
    /// # Errors
    /// `ResourceNotFoundException`; `InvalidParameterException` for a pattern that is not understood, or a token of something
    /// else.
    pub fn filter_log_events(&self, input: &FilterLogEventsInput) -> Result<FilterLogEventsOutput, ApiError> {
        let (group, mut streams) = self.group(&input.group)?;
        if let Some(names) = &input.log_stream_names {
            if names.iter().any(|name| streams.binary_search(name).is_err()) {
                return Err(stream_not_found());
            }
            streams.retain(|stream| names.contains(stream));
        }
        let prefix = input.log_stream_name_prefix.as_deref().unwrap_or_default();
        streams.retain(|stream| stream.starts_with(prefix));

        let list = self.list(LogsOperation::FilterLogEvents, group);
        let (newest_first, after) = match self.resume::<(bool, Place)>(&list, input.next_token.as_deref())? {
            Some((newest_first, place)) => (newest_first, Some(place)),
            None => (input.start_from_head == Some(false), None),
        };
        let range = Range {
            start: input.start_time.unwrap_or_default(),
            end: input.end_time.unwrap_or(i64::MAX).saturating_add(1),
            newest_first,
        };
        let mut merge = Merge { query: self, group, range, queue: BTreeMap::new(), open: 0 };
        for stream in streams {
            merge.add(stream, after.as_ref())?;
        }
        let search = Search { pattern: input.pattern()?, limit: limit(input.limit, PAGE_EVENTS), scan: SCAN_BYTES };
        let (events, last) = search.page(&mut merge)?;
        Ok(FilterLogEventsOutput {
            events: events.into_iter().map(|(stream, event)| self.output(group, stream, event)).collect(),
            searched_log_streams: [],
            next_token: last.map(|place| self.seal(&list, &(newest_first, place))).transpose()?,
        })
    }

    fn output(&self, group: &str, stream: String, event: Event) -> FilteredLogEvent {
        let digest = Sha256::digest([self.account.as_str(), group, &stream].join("\n"));
        let of_stream = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let (timestamp, number) = (event.line.t, event.line.n);
        FilteredLogEvent {
            log_stream_name: stream,
            timestamp,
            message: shown(event.line.m),
            ingestion_time: timestamp,
            // 56 digits that grow with time, as the service's do.
            event_id: format!("{timestamp:016}{of_stream:020}{number:020}"),
        }
    }
}

/// What is looked for.
struct Search {
    pattern: FilterPattern,
    limit: usize,
    scan: u64,
}

impl Search {
    /// The events of a page, and where the next one goes on if there may be one.
    fn page(&self, merge: &mut Merge<'_>) -> Result<(Vec<Found>, Option<Place>), ApiError> {
        let (mut page, mut bytes, mut scanned) = (Vec::new(), 0, 0);
        let mut last = None;
        while let Some((stream, event)) = merge.next()? {
            scanned += event.end - event.start;
            let offset = if merge.range.newest_first { event.start } else { event.end };
            let place = Place { t: event.line.t, stream: stream.clone(), offset };
            if self.pattern.matches(&event.line.m) {
                bytes += event.line.m.len() + EVENT_BYTES;
                if bytes > PAGE_BYTES && !page.is_empty() {
                    return Ok((page, last));
                }
                page.push((stream, event));
            }
            last = Some(place);
            if page.len() >= self.limit || scanned >= self.scan {
                break;
            }
        }
        let more = !merge.queue.is_empty();
        Ok((page, last.filter(|_| more)))
    }
}

/// Which times are in, and in what order they come.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: i64,
    /// The first that is not in.
    end: i64,
    newest_first: bool,
}

/// Streams in the order of their next events. Only those near the current time are open.
struct Merge<'a> {
    query: &'a Query,
    group: &'a str,
    range: Range,
    queue: BTreeMap<Key, Source>,
    open: usize,
}

/// What is left of a stream.
struct Source {
    from: u64,
    to: u64,
    /// The events, and the next one of them; `None` while the stream is not open: then its key is a bound of the next event's.
    events: Option<(Events, Event)>,
}

type Events = Box<dyn Iterator<Item = io::Result<Event>>>;

impl Merge<'_> {
    /// Takes in what a stream has in the range after that place.
    fn add(&mut self, stream: String, after: Option<&Place>) -> Result<(), ApiError> {
        let file = self.query.open(self.group, &stream)?;
        let (first, last) = (file.first().map_err(failed)?, file.last().map_err(failed)?);
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        let Range { start, end, newest_first } = self.range;
        if last.line.t < start || first.line.t >= end {
            return Ok(());
        }
        let seek = |t| file.seek_time(t).map_err(failed);
        let mut from = if first.line.t < start { seek(start)? } else { 0 };
        let mut to = if last.line.t < end { file.end() } else { seek(end)? };
        if let Some(place) = after {
            let at = continued(&file, &stream, place, newest_first)?;
            (from, to) = if newest_first { (from, to.min(at)) } else { (from.max(at), to) };
        }
        if from < to {
            let key = if newest_first { (last.line.t, stream, u64::MAX) } else { (first.line.t.max(start), stream, 0) };
            self.queue.insert(key, Source { from, to, events: None });
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<(Key, Source)> {
        let (key, source) = if self.range.newest_first { self.queue.pop_last() } else { self.queue.pop_first() }?;
        self.open -= usize::from(source.events.is_some());
        Some((key, source))
    }

    /// Puts a stream back whose next event is `event`.
    fn push(&mut self, stream: String, source: Source, events: Events, event: Event) {
        let key = (event.line.t, stream, event.start);
        let events = if self.open < MAX_OPEN {
            self.open += 1;
            Some((events, event))
        } else {
            None
        };
        self.queue.insert(key, Source { events, ..source });
    }

    /// The next event of all.
    fn next(&mut self) -> Result<Option<Found>, ApiError> {
        while let Some(((_, stream, _), mut source)) = self.pop() {
            let (mut events, event) = match source.events.take() {
                Some(open) => open,
                None => {
                    let mut events = self.events(&stream, &source)?;
                    let Some(event) = events.next().transpose().map_err(failed)? else { continue };
                    let key = (event.line.t, &stream, event.start);
                    let queued = if self.range.newest_first {
                        self.queue.last_key_value().is_some_and(|((t, name, at), _)| (*t, name, *at) > key)
                    } else {
                        self.queue.first_key_value().is_some_and(|((t, name, at), _)| (*t, name, *at) < key)
                    };
                    if queued {
                        self.push(stream, source, events, event);
                        continue;
                    }
                    (events, event)
                }
            };
            match self.range.newest_first {
                true => source.to = event.start,
                false => source.from = event.end,
            }
            if let Some(following) = events.next().transpose().map_err(failed)? {
                self.push(stream.clone(), source, events, following);
            }
            return Ok(Some((stream, event)));
        }
        Ok(None)
    }

    fn events(&self, stream: &str, source: &Source) -> Result<Events, ApiError> {
        let file = self.query.open(self.group, stream)?;
        let Source { from, to, .. } = *source;
        Ok(if self.range.newest_first {
            Box::new(file.backward(from, to).map_err(failed)?)
        } else {
            Box::new(file.forward(from, to).map_err(failed)?)
        })
    }
}

/// Where a stream goes on after an event that may be another stream's.
fn continued(file: &LogFile, stream: &str, place: &Place, newest_first: bool) -> Result<u64, ApiError> {
    if stream == place.stream {
        let known = file.is_boundary(place.offset).map_err(failed)?;
        return if known { Ok(place.offset) } else { Err(invalid_token()) };
    }
    // Of the same time, streams whose names come before were looked at; newest first, those whose names come after.
    let seen = (stream < place.stream.as_str()) != newest_first;
    let t = if seen != newest_first { place.t.saturating_add(1) } else { place.t };
    file.seek_time(t).map_err(failed)
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
