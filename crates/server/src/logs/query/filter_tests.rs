use super::{
    super::fixture::{Fixture, GROUP, group},
    *,
};

fn input() -> FilterLogEventsInput {
    FilterLogEventsInput { group: group(GROUP), ..Default::default() }
}

fn ask(fixture: &Fixture, input: &FilterLogEventsInput) -> FilterLogEventsOutput {
    fixture.query().filter_log_events(input).expect("page")
}

/// `stream time message` of all pages, and how many there were.
fn all(fixture: &Fixture, mut input: FilterLogEventsInput) -> (Vec<String>, usize) {
    let (mut shown, mut pages) = (Vec::new(), 0);
    loop {
        let page = ask(fixture, &input);
        assert!(page.events.len() <= input.limit.unwrap_or(10_000) as usize);
        shown.extend(page.events.iter().map(|e| format!("{} {} {}", e.log_stream_name, e.timestamp, e.message)));
        pages += 1;
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return (shown, pages);
        }
    }
}

/// Many streams with many equal times, and what the order must be.
fn many(streams: usize, lines: i64) -> (Fixture, Vec<String>) {
    let fixture = Fixture::new();
    let mut wanted = Vec::new();
    for stream in 0..streams {
        let name = format!("{}s", stream * 37 % 100);
        let lines: Vec<(i64, String)> =
            (0..lines).map(|i| ((i * (stream as i64 % 3 + 1)) / 2 + stream as i64 % 5, format!("m{i}"))).collect();
        let borrowed: Vec<(i64, &str)> = lines.iter().map(|(t, m)| (*t, m.as_str())).collect();
        fixture.write(GROUP, &name, &borrowed);
        wanted.extend(lines.into_iter().enumerate().map(|(i, (t, m))| (t, name.clone(), i, m)));
    }
    wanted.sort();
    (fixture, wanted.into_iter().map(|(t, name, _, m)| format!("{name} {t} {m}")).collect())
}

#[test]
fn streams_are_merged_by_time_whatever_the_page() {
    let (fixture, wanted) = many(12, 15);
    for limit in [None, Some(1), Some(7), Some(1000)] {
        assert_eq!(all(&fixture, FilterLogEventsInput { limit, ..input() }).0, wanted, "{limit:?}");
    }
}

#[test]
fn newest_first_is_the_other_way_round() {
    let (fixture, mut wanted) = many(12, 15);
    wanted.reverse();
    for limit in [None, Some(1), Some(7)] {
        // What a request may ask is decided before; here 0 is late enough.
        let newest = FilterLogEventsInput { limit, start_from_head: Some(false), ..input() };
        assert_eq!(all(&fixture, newest).0, wanted, "{limit:?}");
    }
}

#[test]
fn more_streams_than_may_be_open() {
    let fixture = Fixture::new();
    let (streams, lines) = (MAX_OPEN + 40, 4);
    for stream in 0..streams {
        let lines: Vec<(i64, &str)> = (0..lines).map(|i| (i * 10, "x")).collect();
        fixture.write(GROUP, &format!("{stream:04}"), &lines);
    }
    let (shown, _) = all(&fixture, FilterLogEventsInput { limit: Some(500), ..input() });
    let wanted = (0..lines).flat_map(|i| (0..streams).map(move |stream| format!("{stream:04} {} x", i * 10)));
    assert_eq!(shown, wanted.collect::<Vec<_>>());
    let newest = FilterLogEventsInput { limit: Some(500), start_from_head: Some(false), ..input() };
    assert_eq!(all(&fixture, newest).0, shown.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn both_ends_of_the_time_are_in() {
    let fixture = Fixture::new();
    fixture.write(GROUP, "a", &[(10, "x"), (20, "x"), (30, "x")]);
    fixture.write(GROUP, "b", &[(15, "x"), (30, "x"), (31, "x")]);
    fixture.write(GROUP, "empty", &[]);
    let between = |start, end| {
        let (shown, _) = all(&fixture, FilterLogEventsInput { start_time: start, end_time: end, ..input() });
        shown
    };
    assert_eq!(between(Some(15), Some(30)), ["b 15 x", "a 20 x", "a 30 x", "b 30 x"]);
    assert_eq!(between(Some(31), None), ["b 31 x"]);
    assert_eq!(between(None, Some(10)), ["a 10 x"]);
    assert_eq!(between(Some(32), None), Vec::<String>::new());
    assert_eq!(between(Some(30), Some(i64::MAX)).len(), 3);
}

#[test]
fn chosen_streams_and_patterns() {
    let fixture = Fixture::new();
    fixture.write(GROUP, "build/1", &[(1, "start"), (4, "ERROR one")]);
    fixture.write(GROUP, "app/1", &[(2, "ERROR two"), (3, r#"{"level":"warn","ms":7}"#)]);
    fixture.write(GROUP, "app/2", &[(5, "ERROR three")]);
    let ask = |more: FilterLogEventsInput| all(&fixture, FilterLogEventsInput { group: group(GROUP), ..more }).0;
    let pattern = |text: &str| FilterLogEventsInput { filter_pattern: Some(text.into()), ..Default::default() };
    assert_eq!(ask(pattern("ERROR")), ["app/1 2 ERROR two", "build/1 4 ERROR one", "app/2 5 ERROR three"]);
    assert_eq!(ask(pattern("ERROR -two -three")), ["build/1 4 ERROR one"]);
    assert_eq!(ask(pattern("{ $.level = \"warn\" && $.ms < 8 }")).len(), 1);
    let names =
        FilterLogEventsInput { log_stream_names: Some(vec!["app/2".into(), "app/1".into()]), ..pattern("ERROR") };
    assert_eq!(ask(names), ["app/1 2 ERROR two", "app/2 5 ERROR three"]);
    let prefix = FilterLogEventsInput { log_stream_name_prefix: Some("build/".into()), ..Default::default() };
    assert_eq!(ask(prefix).len(), 2);
    let limited = FilterLogEventsInput { limit: Some(1), ..pattern("ERROR") };
    assert_eq!(ask(limited).len(), 3, "tokens go on behind what did not match");

    let error = |input: FilterLogEventsInput| fixture.query().filter_log_events(&input).expect_err("refused");
    let absent = FilterLogEventsInput { log_stream_names: Some(vec!["app/1".into(), "app".into()]), ..input() };
    assert_eq!(error(absent), stream_not_found());
    let absent = FilterLogEventsInput { group: group("none"), ..input() };
    assert_eq!(error(absent), api::logs::group_not_found());
    let forged = FilterLogEventsInput { next_token: Some("bm9uZQ".into()), ..input() };
    assert_eq!(error(forged), invalid_token());
}

#[test]
fn ids_are_stable_and_unique() {
    let (fixture, wanted) = many(5, 20);
    let ids = |limit| {
        let (mut input, mut ids) = (FilterLogEventsInput { limit, ..input() }, Vec::new());
        loop {
            let page = ask(&fixture, &input);
            ids.extend(page.events.into_iter().map(|event| event.event_id));
            input.next_token = page.next_token;
            if input.next_token.is_none() {
                return ids;
            }
        }
    };
    let once = ids(None);
    assert_eq!(once, ids(Some(3)));
    assert!(once.iter().all(|id| id.len() == 56 && id.bytes().all(|byte| byte.is_ascii_digit())));
    let distinct: std::collections::BTreeSet<_> = once.iter().collect();
    assert_eq!(distinct.len(), wanted.len());
}

#[test]
fn a_search_that_finds_nothing_ends_its_page_and_goes_on() {
    let (fixture, wanted) = many(4, 50);
    let streams = fixture.query().group(&group(GROUP)).expect("group").1;
    let search = Search { pattern: FilterPattern::parse("none").expect("pattern"), limit: 10, scan: 1000 };
    let range = Range { start: 0, end: i64::MAX, newest_first: false };
    let (mut after, mut pages, query) = (None, 0, fixture.query());
    loop {
        let mut merge = Merge { query: &query, group: GROUP, range, queue: BTreeMap::new(), open: 0 };
        for stream in &streams {
            merge.add(stream.clone(), after.as_ref()).expect("added");
        }
        let (page, last) = search.page(&mut merge).expect("page");
        assert!(page.is_empty());
        pages += 1;
        after = last;
        if after.is_none() {
            break;
        }
    }
    let bytes = wanted.len() * 30;
    assert!((bytes / 2000..bytes / 500).contains(&pages), "{pages}");
}

#[test]
fn a_page_is_a_megabyte() {
    let fixture = Fixture::new();
    let text = "x".repeat(300_000);
    fixture.write(GROUP, "a", &[(1, &text), (3, &text), (5, &text)]);
    fixture.write(GROUP, "b", &[(2, &text), (4, &text)]);
    let first = ask(&fixture, &input());
    assert_eq!(first.events.iter().map(|event| event.timestamp).collect::<Vec<_>>(), [1, 2, 3]);
    let second = ask(&fixture, &FilterLogEventsInput { next_token: first.next_token, ..input() });
    assert_eq!(second.events.iter().map(|event| event.timestamp).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(second.next_token, None);
}
