//! `GetLogEvents`: one stream, page by page in both directions.
//!
//! A token is a place between two events and a direction. At the end of the stream the forward token stays what it is; what
//! is written later appears behind it.

use api::{
    ApiError,
    logs::{GetLogEventsInput, GetLogEventsOutput, LogsOperation, OutputLogEvent, invalid_token, stream_not_found},
};

use super::{EVENT_BYTES, PAGE_BYTES, PAGE_EVENTS, Query, failed, limit, shown};
use crate::logs::Event;

/// Forward? And from which offset.
type Place = (bool, u64);

impl Query {
    /// A page of a stream's events.
    ///
    /// # Errors
    /// `ResourceNotFoundException`; `InvalidParameterException` for a token of something else.
    pub fn get_log_events(&self, input: &GetLogEventsInput) -> Result<GetLogEventsOutput, ApiError> {
        let group = input.group.name(&self.region, &self.account)?;
        let Some(file) = self.logs.open(&self.account, group, &input.log_stream_name).map_err(failed)? else {
            self.group(&input.group)?;
            return Err(stream_not_found());
        };
        let list = self.list(LogsOperation::GetLogEvents, (group, &input.log_stream_name));
        let seek = |time: Option<i64>, otherwise| time.map_or(Ok(otherwise), |t| file.seek_time(t)).map_err(failed);
        let (from, to) = (seek(input.start_time, 0)?, seek(input.end_time, file.end())?);
        let (forward, place) = match self.resume::<Place>(&list, input.next_token.as_deref())? {
            // A stream that was replaced may have no such place.
            Some((_, at)) if !file.is_boundary(at).map_err(failed)? => return Err(invalid_token()),
            Some(place) => place,
            None if input.start_from_head == Some(true) => (true, from),
            None => (false, to),
        };
        let limit = limit(input.limit, PAGE_EVENTS);
        let mut events = if forward {
            page(file.forward(place.max(from), to).map_err(failed)?, limit)
        } else {
            page(file.backward(from, place.min(to)).map_err(failed)?, limit)
        }?;
        if !forward {
            events.reverse();
        }
        let first = events.first().map_or(place, |event| event.start);
        let last = events.last().map_or(place, |event| event.end);
        Ok(GetLogEventsOutput {
            events: events.into_iter().map(output).collect(),
            next_forward_token: self.seal(&list, &(true, last))?,
            next_backward_token: self.seal(&list, &(false, first))?,
        })
    }
}

/// As many as a page may hold, at least one.
fn page(events: impl Iterator<Item = std::io::Result<Event>>, limit: usize) -> Result<Vec<Event>, ApiError> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for event in events {
        let event = event.map_err(failed)?;
        bytes += event.line.m.len() + EVENT_BYTES;
        if bytes > PAGE_BYTES && !page.is_empty() {
            break;
        }
        page.push(event);
        if page.len() >= limit {
            break;
        }
    }
    Ok(page)
}

fn output(event: Event) -> OutputLogEvent {
    let timestamp = event.line.t;
    OutputLogEvent { timestamp, message: shown(event.line.m), ingestion_time: timestamp }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, GROUP, group};
    use super::*;

    fn input(more: GetLogEventsInput) -> GetLogEventsInput {
        GetLogEventsInput { group: group(GROUP), log_stream_name: "s".into(), ..more }
    }

    fn ask(fixture: &Fixture, more: GetLogEventsInput) -> GetLogEventsOutput {
        fixture.query().get_log_events(&input(more)).expect("page")
    }

    fn times(page: &GetLogEventsOutput) -> Vec<i64> {
        page.events.iter().map(|event| event.timestamp).collect()
    }

    fn next(token: &str, limit: u32) -> GetLogEventsInput {
        GetLogEventsInput { next_token: Some(token.into()), limit: Some(limit), ..Default::default() }
    }

    /// Times 0, 10, 20 … 90.
    fn ten() -> Fixture {
        let fixture = Fixture::new();
        let lines: Vec<(i64, &str)> = (0..10).map(|i| (i * 10, "line")).collect();
        fixture.write(GROUP, "s", &lines);
        fixture
    }

    #[test]
    fn forward_to_the_end_and_on_when_there_is_more() {
        let fixture = ten();
        let head = GetLogEventsInput { limit: Some(4), start_from_head: Some(true), ..Default::default() };
        let first = ask(&fixture, head);
        assert_eq!(times(&first), [0, 10, 20, 30]);
        let second = ask(&fixture, next(&first.next_forward_token, 4));
        let third = ask(&fixture, next(&second.next_forward_token, 4));
        assert_eq!((times(&second), times(&third)), (vec![40, 50, 60, 70], vec![80, 90]));
        let end = ask(&fixture, next(&third.next_forward_token, 4));
        assert_eq!((times(&end), &end.next_forward_token), (vec![], &third.next_forward_token));
        fixture.write(GROUP, "s", &[(100, "new"), (110, "")]);
        let new = ask(&fixture, next(&end.next_forward_token, 4));
        assert_eq!(times(&new), [100, 110]);
        assert_eq!((new.events[0].message.as_str(), new.events[1].message.as_str()), ("new", " "));
        let back = ask(&fixture, next(&new.next_backward_token, 3));
        assert_eq!(times(&back), [70, 80, 90], "the other direction from there");
    }

    #[test]
    fn backward_to_the_start() {
        let fixture = ten();
        let first = ask(&fixture, GetLogEventsInput { limit: Some(4), ..Default::default() });
        assert_eq!(times(&first), [60, 70, 80, 90]);
        let second = ask(&fixture, next(&first.next_backward_token, 4));
        let third = ask(&fixture, next(&second.next_backward_token, 4));
        assert_eq!((times(&second), times(&third)), (vec![20, 30, 40, 50], vec![0, 10]));
        let start = ask(&fixture, next(&third.next_backward_token, 4));
        assert_eq!((times(&start), &start.next_backward_token), (vec![], &third.next_backward_token));
        assert_eq!(times(&ask(&fixture, next(&start.next_forward_token, 2))), [0, 10]);
        let none = ask(&fixture, next(&first.next_forward_token, 4));
        assert_eq!(none.next_forward_token, first.next_forward_token);
    }

    #[test]
    fn the_start_is_in_and_the_end_is_not() {
        let fixture = ten();
        let between = |start: i64, end: i64, head: bool| GetLogEventsInput {
            start_time: Some(start),
            end_time: Some(end),
            start_from_head: Some(head),
            limit: Some(3),
            ..Default::default()
        };
        assert_eq!(times(&ask(&fixture, between(20, 50, true))), [20, 30, 40]);
        assert_eq!(times(&ask(&fixture, between(19, 51, false))), [30, 40, 50]);
        assert_eq!(times(&ask(&fixture, between(21, 30, true))), Vec::<i64>::new());
        assert_eq!(times(&ask(&fixture, between(50, 20, false))), Vec::<i64>::new());
        let mut page = ask(&fixture, between(20, 71, true));
        page = ask(&fixture, GetLogEventsInput { next_token: Some(page.next_forward_token), ..between(20, 71, true) });
        assert_eq!(times(&page), [50, 60, 70], "the bounds hold on every page");
        page = ask(&fixture, GetLogEventsInput { next_token: Some(page.next_forward_token), ..between(20, 71, true) });
        assert!(page.events.is_empty());
    }

    #[test]
    fn a_page_is_a_megabyte() {
        let fixture = Fixture::new();
        let text = "x".repeat(300_000);
        fixture.write(GROUP, "s", &[(1, &text), (2, &text), (3, &text), (4, &text), (5, &text)]);
        let first = ask(&fixture, GetLogEventsInput { start_from_head: Some(true), ..Default::default() });
        assert_eq!(times(&first), [1, 2, 3]);
        assert_eq!(times(&ask(&fixture, next(&first.next_forward_token, 10))), [4, 5]);
        assert_eq!(times(&ask(&fixture, GetLogEventsInput::default())), [3, 4, 5]);
    }

    #[test]
    fn what_is_not_there_and_what_is_forged() {
        let fixture = ten();
        fixture.write(GROUP, "other", &[(1, "x")]);
        let error = |input: GetLogEventsInput| fixture.query().get_log_events(&input).expect_err("refused");
        let absent = GetLogEventsInput { log_stream_name: "none".into(), ..input(Default::default()) };
        assert_eq!(error(absent), stream_not_found());
        let absent = GetLogEventsInput { group: group("none"), ..input(Default::default()) };
        assert_eq!(error(absent), api::logs::group_not_found());
        let token = ask(&fixture, GetLogEventsInput::default()).next_forward_token;
        let other = GetLogEventsInput { log_stream_name: "other".into(), ..input(next(&token, 1)) };
        assert_eq!(error(other), invalid_token(), "a token of another stream");
        assert_eq!(error(input(next(&token[1..], 1))), invalid_token());
        let query = fixture.query();
        let list = query.list(LogsOperation::GetLogEvents, (GROUP, "s"));
        for place in [(true, 1_u64), (false, 1), (true, 1 << 40), (false, u64::MAX)] {
            let token = query.seal(&list, &place).expect("sealed");
            assert_eq!(error(input(next(&token, 1))), invalid_token(), "{place:?} is between no two events");
        }
    }
}
