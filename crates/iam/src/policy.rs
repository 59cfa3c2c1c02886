//! Policy documents and what they decide.

use crate::{document::Node, pattern::Pattern};

/// Longest document, characters without white space: AWS's bound for a managed policy.
pub const MAX_CHARACTERS: usize = 6144;
/// Longest document with its white space, bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Most statements of a document; AWS has no bound but the length.
pub const MAX_STATEMENTS: usize = 100;
/// The versions of the language; without one a document is of the older.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];

/// Why a document is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too long.
    #[error("the policy document is longer than {MAX_CHARACTERS} characters, white space not counted")]
    TooLong,
    /// Not JSON; the reader's words with line and column.
    #[error("the policy document is not JSON: {0}")]
    Json(String),
    /// The document as a whole.
    #[error("the policy document {0}")]
    Document(String),
    /// One statement.
    #[error("{statement} of the policy document {reason}")]
    Statement {
        /// Its number from 1, and its `Sid` if it has one.
        statement: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a set of policies says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it and none denies it.
    Allow,
    /// No statement speaks of it.
    ImplicitDeny,
    /// A statement denies it, whatever others say.
    ExplicitDeny,
}

/// Decides by all those policies together.
pub fn decide<'a>(policies: impl IntoIterator<Item = &'a Policy>, action: &str, resource: &str) -> Decision {
    let mut decision = Decision::ImplicitDeny;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        // A denial stands whatever else is said; a second permission adds nothing.
        let news = statement.effect == Effect::Deny || decision == Decision::ImplicitDeny;
        if news && statement.speaks_of(action, resource) {
            match statement.effect {
                Effect::Deny => return Decision::ExplicitDeny,
                Effect::Allow => decision = Decision::Allow,
            }
        }
    }
    decision
}

/// A document that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    effect: Effect,
    actions: Patterns,
    resources: Patterns,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Patterns {
    /// Everything but these?
    not: bool,
    any_of: Vec<Pattern>,
}

impl Statement {
    fn speaks_of(&self, action: &str, resource: &str) -> bool {
        self.actions.take(action) && self.resources.take(resource)
    }
}

impl Patterns {
    fn take(&self, text: &str) -> bool {
        self.any_of.iter().any(|pattern| pattern.matches(text)) != self.not
    }
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is too long, not JSON, not well-formed, or says anything that is not evaluated here.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let characters = text.chars().filter(|c| !c.is_ascii_whitespace()).count();
        if text.len() > MAX_BYTES || characters > MAX_CHARACTERS {
            return Err(PolicyError::TooLong);
        }
        let node: Node = serde_json::from_str(text).map_err(|error| PolicyError::Json(error.to_string()))?;
        let refuse = |reason: String| PolicyError::Document(reason);
        let Node::Object(members) = node else { return Err(refuse("must be an object with a Statement".into())) };
        let mut statements = None;
        let members = unique(members).map_err(refuse)?;
        for (name, value) in members {
            match (name.as_str(), value) {
                ("Version", Node::Text(version)) if VERSIONS.contains(&version.as_str()) => {}
                ("Version", _) => return Err(refuse(format!("has a Version that is none of {}", VERSIONS.join(", ")))),
                ("Id", Node::Text(_)) => {}
                ("Id", _) => return Err(refuse("has an Id that is no text".into())),
                ("Statement", Node::List(list)) => statements = Some(list),
                ("Statement", statement) => statements = Some(vec![statement]),
                (other, _) => return Err(refuse(unknown(other, "Version, Id, Statement"))),
            }
        }
        let statements = statements.ok_or_else(|| refuse("has no Statement".into()))?;
        if !(1..=MAX_STATEMENTS).contains(&statements.len()) {
            return Err(refuse(format!("has {} statements, must have 1 to {MAX_STATEMENTS}", statements.len())));
        }
        Ok(Policy { statements: read_statements(statements)? })
    }
}

fn read_statements(nodes: Vec<Node>) -> Result<Vec<Statement>, PolicyError> {
    let mut sids: Vec<String> = Vec::new();
    let mut statements = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let sid = sid(&node).map(str::to_owned);
        let name = match &sid {
            Some(sid) => format!("statement {} ({})", index + 1, shown(sid)),
            None => format!("statement {}", index + 1),
        };
        let refuse = |reason: String| PolicyError::Statement { statement: name.clone(), reason };
        if sid.as_ref().is_some_and(|sid| sids.contains(sid)) {
            return Err(refuse("has the Sid of a statement before it".into()));
        }
        sids.extend(sid);
        statements.push(read_statement(node).map_err(refuse)?);
    }
    Ok(statements)
}

fn sid(node: &Node) -> Option<&str> {
    let Node::Object(members) = node else { return None };
    members.iter().find_map(|(name, value)| match value {
        Node::Text(text) if name == "Sid" => Some(text.as_str()),
        _ => None,
    })
}

fn read_statement(node: Node) -> Result<Statement, String> {
    let Node::Object(members) = node else { return Err("is no object".into()) };
    let (mut effect, mut actions, mut resources) = (None, None, None);
    for (name, value) in unique(members)? {
        match (name.as_str(), value) {
            ("Sid", Node::Text(sid)) if sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {}
            ("Sid", _) => return Err("has a Sid of other characters than A-Z, a-z and 0-9".into()),
            ("Effect", Node::Text(text)) if text == "Allow" => effect = Some(Effect::Allow),
            ("Effect", Node::Text(text)) if text == "Deny" => effect = Some(Effect::Deny),
            ("Effect", _) => return Err("has an Effect that is neither Allow nor Deny".into()),
            ("Action" | "NotAction", value) => {
                let not = name == "NotAction";
                one_of(&actions, "Action, NotAction")?;
                actions = Some(Patterns { not, any_of: patterns(&name, value, action)? });
            }
            ("Resource" | "NotResource", value) => {
                let not = name == "NotResource";
                one_of(&resources, "Resource, NotResource")?;
                resources = Some(Patterns { not, any_of: patterns(&name, value, resource)? });
            }
            ("Condition" | "Principal" | "NotPrincipal", _) => {
                return Err(format!("has a {name}, which hearth does not evaluate; leave it out"));
            }
            (other, _) => return Err(unknown(other, "Sid, Effect, Action, NotAction, Resource, NotResource")),
        }
    }
    Ok(Statement {
        effect: effect.ok_or("has no Effect")?,
        actions: actions.ok_or("has neither Action nor NotAction")?,
        resources: resources.ok_or("has neither Resource nor NotResource")?,
    })
}

fn one_of(before: &Option<Patterns>, names: &str) -> Result<(), String> {
    if before.is_none() { Ok(()) } else { Err(format!("has more than one of {names}")) }
}

fn patterns(name: &str, value: Node, read: fn(&str) -> Result<Pattern, String>) -> Result<Vec<Pattern>, String> {
    let wrong = || format!("has a {name} that is neither a text nor a list of texts with one at least");
    let list = match value {
        Node::Text(text) => vec![Node::Text(text)],
        Node::List(list) if !list.is_empty() => list,
        _ => return Err(wrong()),
    };
    list.into_iter()
        .map(|item| match item {
            Node::Text(text) => read(&text).map_err(|reason| format!("has {} in {name}, {reason}", shown(&text))),
            _ => Err(wrong()),
        })
        .collect()
}

fn action(text: &str) -> Result<Pattern, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "*?-_".contains(c);
    let fits = match text.split_once(':') {
        Some((service, name)) => {
            !service.is_empty() && !name.is_empty() && service.chars().all(plain) && name.chars().all(plain)
        }
        None => text == "*",
    };
    if fits { Ok(Pattern::action(text)) } else { Err("must be * or of the form service:Action".into()) }
}

fn resource(text: &str) -> Result<Pattern, String> {
    if text.contains("${") {
        return Err("a policy variable, which hearth does not evaluate; write the value".into());
    }
    // Six segments, or fewer with a `*` at the end of the last that stands for the rest.
    let segments = text.split(':').count();
    if text == "*" || (text.starts_with("arn:") && (segments >= 6 || text.contains('*'))) {
        return Ok(Pattern::resource(text));
    }
    Err("must be * or an ARN".into())
}

/// Members in order; an error when one is there twice.
fn unique(members: Vec<(String, Node)>) -> Result<Vec<(String, Node)>, String> {
    for (index, (name, _)) in members.iter().enumerate() {
        if members[..index].iter().any(|(before, _)| before == name) {
            return Err(format!("has the member {} twice", shown(name)));
        }
    }
    Ok(members)
}

fn unknown(name: &str, known: &str) -> String {
    format!("has the member {}, which hearth does not know; it knows {known}", shown(name))
}

/// Text of a client in a message.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(128).collect::<String>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEMO: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";
    const OTHER: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:other";

    fn policy(statements: &str) -> Policy {
        Policy::parse(&format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#)).unwrap()
    }

    #[test]
    fn decisions() {
        let reader = policy(r#"{"Effect":"Allow","Action":["lambda:Get*","lambda:List*"],"Resource":"*"}"#);
        let demo = policy(&format!(r#"[{{"Sid":"a","Effect":"Allow","Action":"lambda:*","Resource":["{DEMO}"]}}]"#));
        let no_end = policy(r#"{"Effect":"Deny","Action":"LAMBDA:terminatemicrovm","Resource":"*"}"#);
        let all_but = policy(&format!(r#"{{"Effect":"Allow","NotAction":"iam:*","NotResource":"{OTHER}"}}"#));
        let deny_rest = policy(
            &format!(r#"{{"Effect":"Deny","Action":"*","NotResource":["{DEMO}","x:*"]}}"#)
                .replace("x:*", "arn:aws:s3:::b/*"),
        );
        use Decision::{Allow, ExplicitDeny, ImplicitDeny};
        for (policies, action, resource, expected) in [
            (vec![], "lambda:GetMicrovm", DEMO, ImplicitDeny),
            (vec![&reader], "lambda:GetMicrovm", DEMO, Allow),
            (vec![&reader], "lambda:ListMicrovms", "*", Allow),
            (vec![&reader], "lambda:RunMicrovm", DEMO, ImplicitDeny),
            (vec![&demo], "lambda:RunMicrovm", DEMO, Allow),
            (vec![&demo], "lambda:RunMicrovm", OTHER, ImplicitDeny),
            (vec![&demo], "lambda:ListMicrovms", "*", ImplicitDeny),
            (vec![&demo], "iam:PassRole", DEMO, ImplicitDeny),
            (vec![&demo, &no_end], "lambda:TerminateMicrovm", DEMO, ExplicitDeny),
            (vec![&no_end, &demo], "lambda:TerminateMicrovm", DEMO, ExplicitDeny),
            (vec![&no_end, &demo], "lambda:SuspendMicrovm", DEMO, Allow),
            (vec![&no_end], "lambda:TerminateMicrovm", OTHER, ExplicitDeny),
            (vec![&all_but], "lambda:RunMicrovm", DEMO, Allow),
            (vec![&all_but], "lambda:RunMicrovm", OTHER, ImplicitDeny),
            (vec![&all_but], "iam:PassRole", DEMO, ImplicitDeny),
            (vec![&all_but, &deny_rest], "lambda:RunMicrovm", DEMO, Allow),
            (vec![&all_but, &deny_rest], "lambda:ListMicrovms", "*", ExplicitDeny),
        ] {
            assert_eq!(decide(policies, action, resource), expected, "{action} {resource}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let statement = |more: &str| {
            format!(r#"{{"Statement":[{{"Sid":"fine","Effect":"Allow","Action":"a:b","Resource":"*"}},{{{more}}}]}}"#)
        };
        let good = r#""Effect":"Allow","Action":"a:b","Resource":"*""#;
        let too_many = format!("[{}]", vec![format!("{{{good}}}"); MAX_STATEMENTS + 1].join(","));
        for (text, words) in [
            ("".to_owned(), "not JSON"),
            ("{".to_owned(), "not JSON"),
            ("[]".to_owned(), "must be an object"),
            ("{}".to_owned(), "has no Statement"),
            (r#"{"Statement":[]}"#.to_owned(), "has 0 statements, must have 1 to 100"),
            (format!(r#"{{"Statement":{too_many}}}"#), "has 101 statements"),
            (format!(r#"{{"Version":"2020-01-01","Statement":{{{good}}}}}"#), "none of 2012-10-17, 2008-10-17"),
            (format!(r#"{{"Id":1,"Statement":{{{good}}}}}"#), "Id that is no text"),
            (format!(r#"{{"statement":{{{good}}}}}"#), "\"statement\", which hearth does not know"),
            (format!(r#"{{"Statement":{{{good}}},"Statement":{{{good}}}}}"#), "\"Statement\" twice"),
            (r#"{"Statement":["x"]}"#.to_owned(), "statement 1 of the policy document is no object"),
            (
                statement(&format!(r#"{good},"Effect":"Deny""#)),
                "statement 2 of the policy document has the member \"Effect\" twice",
            ),
            (
                statement(&format!(r#"{good},"Condition":{{}}"#)),
                "statement 2 of the policy document has a Condition, which",
            ),
            (
                statement(&format!(r#"{good},"Principal":"*","Sid":"x""#)),
                "statement 2 (\"x\") of the policy document has a Principal",
            ),
            (statement(&format!(r#"{good},"Sid":"fine""#)), "the Sid of a statement before"),
            (statement(&format!(r#"{good},"Sid":"not fine""#)), "Sid of other characters"),
            (statement(&format!(r#"{good},"Actions":"a:c""#)), "\"Actions\", which hearth does not know"),
            (statement(&format!(r#"{good},"NotAction":"a:c""#)), "more than one of Action, NotAction"),
            (statement(&format!(r#"{good},"NotResource":"*""#)), "more than one of Resource, NotResource"),
            (statement(r#""Effect":"allow","Action":"a:b","Resource":"*""#), "neither Allow nor Deny"),
            (statement(r#""Action":"a:b","Resource":"*""#), "has no Effect"),
            (statement(r#""Effect":"Allow","Resource":"*""#), "neither Action nor NotAction"),
            (statement(r#""Effect":"Allow","Action":"a:b""#), "neither Resource nor NotResource"),
            (statement(r#""Effect":"Allow","Action":[],"Resource":"*""#), "neither a text nor a list"),
            (statement(r#""Effect":"Allow","Action":[1],"Resource":"*""#), "neither a text nor a list"),
            (
                statement(r#""Effect":"Allow","Action":"RunMicrovm","Resource":"*""#),
                "\"RunMicrovm\" in Action, must be * or",
            ),
            (statement(r#""Effect":"Allow","Action":"a:b:c","Resource":"*""#), "in Action"),
            (
                statement(r#""Effect":"Allow","Action":"a:b","Resource":"demo""#),
                "\"demo\" in Resource, must be * or an ARN",
            ),
            (statement(r#""Effect":"Allow","Action":"a:b","Resource":"arn:aws:lambda""#), "must be * or an ARN"),
            (
                statement(r#""Effect":"Allow","Action":"a:b","Resource":"arn:aws:s3:::${aws:username}""#),
                "policy variable",
            ),
            (format!(r#"{{"Id":"{}","Statement":{{{good}}}}}"#, "x".repeat(MAX_CHARACTERS)), "longer than 6144"),
            (format!("{}{{", " ".repeat(MAX_BYTES)), "longer than 6144"),
            ("[".repeat(5000), "not JSON"),
        ] {
            let error = Policy::parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{error} / {words}");
        }
    }

    #[test]
    fn white_space_does_not_count() {
        let text = r#"{"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}"#;
        assert!(Policy::parse(&format!("{}{text}", "\n ".repeat(MAX_CHARACTERS))).is_ok());
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(text in r#"[{}\[\]":,a*?\\ ]{0,64}"#) {
            let _ = Policy::parse(&text);
        }

        #[test]
        fn a_denial_wins_in_any_order(flags in prop::collection::vec(any::<bool>(), 1..6)) {
            let effect = |allow: &bool| if *allow { "Allow" } else { "Deny" };
            let policies: Vec<Policy> = flags.iter().map(|allow| {
                policy(&format!(r#"{{"Effect":"{}","Action":"*","Resource":"*"}}"#, effect(allow)))
            }).collect();
            let expected = if flags.iter().all(|allow| *allow) { Decision::Allow } else { Decision::ExplicitDeny };
            prop_assert_eq!(decide(&policies, "lambda:RunMicrovm", "*"), expected);
        }
    }
}
