//! How a Dockerfile spells its base images. Not a parser: buildah is. It only finds names, so that a replacement can be
//! asked for under the spelling that buildah compares: the text of the `FROM` line before `ARG` values are put in.

use std::collections::HashMap;

/// The spellings with variables of the image `full` (see [`full_name`]) in `FROM` lines, by the defaults of the `ARG` lines
/// above the first `FROM`. Whatever this cannot read is left out.
pub(crate) fn spellings(dockerfile: &str, full: &str) -> Vec<String> {
    let mut defaults = HashMap::new();
    let mut seen_from = false;
    let mut found = Vec::new();
    for line in dockerfile.lines() {
        let mut words = line.split_whitespace();
        match words.next().map(str::to_ascii_uppercase).as_deref() {
            Some("ARG") if !seen_from => {
                for (name, value) in words.filter_map(|word| word.split_once('=')) {
                    let value = expand(value.trim_matches(['"', '\'']), &defaults);
                    defaults.insert(name.to_owned(), value.unwrap_or_default());
                }
            }
            Some("FROM") => {
                seen_from = true;
                let Some(written) = words.find(|word| !word.starts_with("--")) else { continue };
                let matches = || expand(written, &defaults).is_some_and(|name| full_name(&name) == full);
                if written.contains('$') && !written.contains('=') && matches() {
                    found.push(written.to_owned());
                }
            }
            _ => {}
        }
    }
    found
}

/// `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}` replaced; `None` for anything else with a dollar sign.
fn expand(text: &str, values: &HashMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (expression, tail) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        let end = expression.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(expression.len());
        let (name, default) = expression.split_at(end);
        let default = match default {
            "" => "",
            default => default.strip_prefix(":-").or(default.strip_prefix('-'))?,
        };
        let value = values.get(name).filter(|value| !value.is_empty());
        out.push_str(value.map_or(default, String::as_str));
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

/// True when the name stands in the text as a whole word.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    text.match_indices(name).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + name.len()..].chars().next().is_some_and(part)
    })
}

/// The registry of an image: `docker.io` unless the name says otherwise.
pub(crate) fn registry(name: &str) -> String {
    let full = full_name(name);
    full.split('/').next().unwrap_or_default().to_owned()
}

/// The name with what Docker leaves out: `python` is `docker.io/library/python:latest`.
pub(crate) fn full_name(name: &str) -> String {
    let host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let name = match name.split_once('/') {
        Some((first, _)) if host(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if tagged { name } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        assert_eq!(full_name("python"), "docker.io/library/python:latest");
        assert_eq!(full_name("a/b:1"), "docker.io/a/b:1");
        assert_eq!(full_name("localhost:5000/b"), "localhost:5000/b:latest");
        assert_eq!(full_name("public.ecr.aws/x/y@sha256:00"), "public.ecr.aws/x/y@sha256:00");
        assert_eq!(registry("python:3"), "docker.io");
        assert_eq!(registry("public.ecr.aws/lambda/microvms:al2023"), "public.ecr.aws");
    }

    #[test]
    fn an_alias_is_looked_for_as_a_whole_word() {
        assert!(mentions("ARG B=a.b/c:1\nFROM a.b/c:1-slim", "a.b/c:1"));
        assert!(!mentions("FROM a.b/c:1-slim\nFROM x/a.b/c:1", "a.b/c:1"));
        assert!(mentions("FROM \"a.b/c:1\"", "a.b/c:1"));
    }

    #[test]
    fn spellings_with_variables_are_found() {
        let text = "ARG R=a.b T=\"1\"\nARG IMAGE=$R/c\nfrom --platform=linux/amd64 ${IMAGE}:${T:-2} AS x\n\
            FROM $IMAGE:$T\nFROM a.b/c:1\nFROM ${R}/d:1\nFROM ${X-a.b/c}:1\nFROM ${T:+a}\nARG T=9\nFROM $";
        assert_eq!(spellings(text, "a.b/c:1"), ["${IMAGE}:${T:-2}", "$IMAGE:$T", "${X-a.b/c}:1"]);
        assert!(spellings("RUN x <<EOF\nFROM ${\nEOF", "a.b/c:1").is_empty());
    }
}
