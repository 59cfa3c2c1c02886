logs = boto3.client("logs")
GROUP = "/aws/lambda-microvms/hello"


def messages(events):
    return [event["message"] for event in events]


def forward(group, stream, **more):
    """All events by GetLogEvents, as the service's users page: until the token comes back."""
    token, found, pages = {}, [], 0
    while True:
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **token, **more)
        found += page["events"]
        if token.get("nextToken") == page["nextForwardToken"]:
            assert page["events"] == []
            return found, pages, page
        token, pages = {"nextToken": page["nextForwardToken"]}, pages + 1


def backward(group, stream, **more):
    token, found, pages = {}, [], 0
    while True:
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, **token, **more)
        found = page["events"] + found
        if token.get("nextToken") == page["nextBackwardToken"]:
            return found, pages
        token, pages = {"nextToken": page["nextBackwardToken"]}, pages + 1


def filtered(**more):
    pages = list(logs.get_paginator("filter_log_events").paginate(PaginationConfig={"PageSize": 3}, **more))
    return [event for page in pages for event in page["events"]], len(pages)


class Tail:
    """What `aws logs tail --follow` does: ask again from the newest time, and drop what was seen."""

    def __init__(self, group, since):
        self.group, self.since, self.seen = group, since, set()

    def more(self):
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=self.group, startTime=self.since, interleaved=True
        )
        new = [e for page in pages for e in page["events"] if e["eventId"] not in self.seen]
        self.seen |= {event["eventId"] for event in new}
        self.since = max([self.since] + [event["timestamp"] for event in new])
        return messages(new)
