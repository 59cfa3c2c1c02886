//! `DescribeLogStreams`

use std::cmp::Ordering;

use api::{
    ApiError,
    logs::{DescribeLogStreamsInput, DescribeLogStreamsOutput, LogStream, LogsOperation, OrderBy, group_arn},
};

use super::{PAGE_NAMES, Query, failed, limit};

/// Where a stream stands in the list: time (0 when the list goes by name), then name.
type Place = (i64, String);

impl Query {
    /// A page of a group's streams.
    ///
    /// # Errors
    /// `ResourceNotFoundException`; `InvalidParameterException` for a token of something else.
    pub fn describe_log_streams(&self, input: &DescribeLogStreamsInput) -> Result<DescribeLogStreamsOutput, ApiError> {
        let (group, mut names) = self.group(&input.group)?;
        let (order, descending) = (input.order_by.unwrap_or(OrderBy::LogStreamName), input.descending == Some(true));
        let list = self.list(LogsOperation::DescribeLogStreams, (group, order, descending));
        let after: Option<Place> = self.resume(&list, input.next_token.as_deref())?;
        names.retain(|name| input.log_stream_name_prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix)));

        let place = |name: String| -> Result<Place, ApiError> {
            match order {
                OrderBy::LogStreamName => Ok((0, name)),
                OrderBy::LastEventTime => {
                    let last = self.open(group, &name)?.last().map_err(failed)?;
                    Ok((last.map_or(0, |event| event.line.t), name))
                }
            }
        };
        let mut places = names.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let compare = |one: &Place, other: &Place| if descending { other.cmp(one) } else { one.cmp(other) };
        places.retain(|place| after.as_ref().is_none_or(|last| compare(place, last) == Ordering::Greater));
        places.sort_by(compare);

        let limit = limit(input.limit, PAGE_NAMES);
        let more = places.len() > limit;
        places.truncate(limit);
        let next_token = places.last().filter(|_| more).map(|place| self.seal(&list, place)).transpose()?;
        let log_streams = places.into_iter().map(|(_, name)| self.log_stream(group, name)).collect::<Result<_, _>>()?;
        Ok(DescribeLogStreamsOutput { log_streams, next_token })
    }

    fn log_stream(&self, group: &str, name: String) -> Result<LogStream, ApiError> {
        let file = self.open(group, &name)?;
        let first = file.first().map_err(failed)?.map(|event| event.line.t);
        let last = file.last().map_err(failed)?.map(|event| event.line.t);
        let born = self.logs.stream_born(&self.account, group, &name).map_err(failed)?;
        Ok(LogStream {
            arn: format!("{}:log-stream:{name}", group_arn(&self.region, &self.account, group)),
            log_stream_name: name,
            // A file that was copied here is younger than what it says.
            creation_time: first.map_or(born, |first| born.min(first)),
            first_event_timestamp: first,
            last_event_timestamp: last,
            last_ingestion_time: last,
            stored_bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, GROUP, group};
    use super::*;

    fn pages(fixture: &Fixture, mut input: DescribeLogStreamsInput) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        loop {
            let page = fixture.query().describe_log_streams(&input).expect("page");
            pages.push(page.log_streams.into_iter().map(|stream| stream.log_stream_name).collect());
            input.next_token = page.next_token;
            if input.next_token.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn by_name_and_by_last_event_in_both_directions() {
        let fixture = Fixture::new();
        for (stream, times) in [("a", [5, 30]), ("b", [7, 10]), ("c", [1, 20]), ("ab", [2, 20])] {
            fixture.write(GROUP, stream, &times.map(|t| (t, "x")));
        }
        fixture.write(GROUP, "empty", &[]);
        let ask = |order_by, descending, limit| {
            let input =
                DescribeLogStreamsInput { group: group(GROUP), order_by, descending, limit, ..Default::default() };
            pages(&fixture, input)
        };
        assert_eq!(ask(None, None, None), [["a", "ab", "b", "c", "empty"]]);
        assert_eq!(ask(None, Some(true), Some(2)), [vec!["empty", "c"], vec!["b", "ab"], vec!["a"]]);
        let time = Some(OrderBy::LastEventTime);
        assert_eq!(ask(time, None, Some(2)), [vec!["empty", "b"], vec!["ab", "c"], vec!["a"]]);
        assert_eq!(ask(time, Some(true), Some(3)), [vec!["a", "c", "ab"], vec!["b", "empty"]]);

        let prefix = DescribeLogStreamsInput {
            group: group(GROUP),
            log_stream_name_prefix: Some("a".into()),
            ..Default::default()
        };
        let found = fixture.query().describe_log_streams(&prefix).expect("streams").log_streams;
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].first_event_timestamp, found[0].last_event_timestamp), (Some(5), Some(30)));
        assert_eq!(found[0].arn, format!("arn:aws:logs:us-east-1:111122223333:log-group:{GROUP}:log-stream:a"));
        assert_eq!(found[0].creation_time, 5);
    }

    #[test]
    fn tokens_of_another_list_are_refused() {
        let fixture = Fixture::new();
        fixture.write(GROUP, "a", &[(1, "x")]);
        fixture.write(GROUP, "b", &[(1, "x")]);
        let input = DescribeLogStreamsInput { group: group(GROUP), limit: Some(1), ..Default::default() };
        let next_token = fixture.query().describe_log_streams(&input).expect("page").next_token;
        assert!(next_token.is_some());
        let other = DescribeLogStreamsInput { descending: Some(true), next_token, ..input };
        let error = fixture.query().describe_log_streams(&other).expect_err("refused");
        assert_eq!(error, api::logs::invalid_token());
        let none = DescribeLogStreamsInput { group: group("none"), ..Default::default() };
        let error = fixture.query().describe_log_streams(&none).expect_err("refused");
        assert_eq!(error, api::logs::group_not_found());
    }
}
