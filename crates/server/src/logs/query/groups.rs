//! `DescribeLogGroups`

use api::{
    ApiError,
    logs::{DescribeLogGroupsInput, DescribeLogGroupsOutput, LogGroup, LogGroupClass, LogsOperation, group_arn},
};

use super::{PAGE_NAMES, Query, failed, limit};

impl Query {
    /// A page of groups, by name.
    ///
    /// # Errors
    /// `InvalidParameterException` for a token of something else.
    pub fn describe_log_groups(&self, input: &DescribeLogGroupsInput) -> Result<DescribeLogGroupsOutput, ApiError> {
        let list = self.list(LogsOperation::DescribeLogGroups, ());
        let after: Option<String> = self.resume(&list, input.next_token.as_deref())?;
        let mut names = self.logs.groups(&self.account).map_err(failed)?;
        names.retain(|name| input.wants(&self.account, name) && after.as_ref().is_none_or(|last| name > last));
        let limit = limit(input.limit, PAGE_NAMES);
        let more = names.len() > limit;
        names.truncate(limit);
        let next_token = names.last().filter(|_| more).map(|last| self.seal(&list, last)).transpose()?;
        let log_groups = names.into_iter().map(|name| self.log_group(name)).collect::<Result<_, _>>()?;
        Ok(DescribeLogGroupsOutput { log_groups, next_token })
    }

    fn log_group(&self, name: String) -> Result<LogGroup, ApiError> {
        let (creation_time, stored_bytes) = self.logs.group_facts(&self.account, &name).map_err(failed)?;
        let arn = group_arn(&self.region, &self.account, &name);
        Ok(LogGroup {
            log_group_name: name,
            creation_time,
            metric_filter_count: 0,
            arn: format!("{arn}:*"),
            stored_bytes,
            log_group_class: LogGroupClass::Standard,
            log_group_arn: arn,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn names(output: &DescribeLogGroupsOutput) -> Vec<&str> {
        output.log_groups.iter().map(|group| group.log_group_name.as_str()).collect()
    }

    #[test]
    fn pages_prefixes_and_parts() {
        let fixture = Fixture::new();
        for group in ["/aws/c", "/aws/a", "own", "/aws/b"] {
            fixture.write(group, "s", &[(1, "x")]);
        }
        let ask = |input: DescribeLogGroupsInput| fixture.query().describe_log_groups(&input);
        let all = ask(DescribeLogGroupsInput::default()).expect("groups");
        assert_eq!(names(&all), ["/aws/a", "/aws/b", "/aws/c", "own"]);
        assert_eq!(all.next_token, None);
        let group = &all.log_groups[0];
        assert_eq!(group.arn, "arn:aws:logs:us-east-1:111122223333:log-group:/aws/a:*");
        assert_eq!(format!("{}:*", group.log_group_arn), group.arn);
        assert_eq!(group.stored_bytes, r#"{"n":1,"t":1,"m":"x"}"#.len() as u64 + 1);
        assert!(group.creation_time > 1_700_000_000_000);

        let mut input = DescribeLogGroupsInput { limit: Some(2), ..Default::default() };
        let first = ask(input.clone()).expect("page");
        assert_eq!(names(&first), ["/aws/a", "/aws/b"]);
        input.next_token = first.next_token;
        let second = ask(input.clone()).expect("page");
        assert_eq!((names(&second), &second.next_token), (vec!["/aws/c", "own"], &None));
        input.next_token = input.next_token.map(|token| token.to_lowercase());
        assert_eq!(ask(input).expect_err("refused"), api::logs::invalid_token());

        let prefix = DescribeLogGroupsInput { log_group_name_prefix: Some("/aws/".into()), ..Default::default() };
        assert_eq!(names(&ask(prefix).expect("groups")).len(), 3);
        let part = DescribeLogGroupsInput { log_group_name_pattern: Some("w".into()), ..Default::default() };
        assert_eq!(names(&ask(part).expect("groups")).len(), 4);
        let class = DescribeLogGroupsInput { log_group_class: Some(LogGroupClass::Delivery), ..Default::default() };
        assert!(ask(class).expect("groups").log_groups.is_empty());
        let linked = |account: &str| DescribeLogGroupsInput {
            include_linked_accounts: Some(true),
            account_identifiers: Some(vec![account.into()]),
            ..Default::default()
        };
        assert_eq!(ask(linked("111122223333")).expect("groups").log_groups.len(), 4);
        assert!(ask(linked("444455556666")).expect("groups").log_groups.is_empty());
    }
}
