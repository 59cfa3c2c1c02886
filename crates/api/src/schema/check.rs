//! Holds a request to its table: every violation of a bound in one message, then the first text that means nothing.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{Member, Shape, Text, bounds, bounds::Longest};
use crate::ApiError;

/// Most violations that a message lists; the number in front counts all.
const SHOWN_VIOLATIONS: usize = 20;

/// Checks a request, on a server that lets microVMs live as long as `longest`, and makes it plain: members that are `null` go
/// away, for they mean the same as absent ones.
///
/// # Errors
/// `{"message":null}` when a value is not of its kind at all, `{"Message":"Expected null"}` for a flag member of a union
/// that is not `{}`, else `ValidationException` with all violations (spec 3.1), else what the first wrong text calls for.
pub fn check(members: &'static [Member], request: &mut Map<String, Value>, longest: Longest) -> Result<(), ApiError> {
    let mut walk = Walk { longest, count: 0, shown: Vec::new(), forms: Vec::new() };
    walk.members(members, request, "")?;
    if walk.count > 0 {
        return Err(ApiError::validation(walk.summary()));
    }
    walk.forms.iter().try_for_each(|(form, text)| form(request, text))
}

struct Walk {
    longest: Longest,
    /// Violations found.
    count: usize,
    /// The first of them, in words.
    shown: Vec<String>,
    forms: Vec<(super::Form, String)>,
}

impl Walk {
    fn refuse(&mut self, value: &str, path: &str, constraint: std::fmt::Arguments<'_>) {
        self.count += 1;
        if self.shown.len() < SHOWN_VIOLATIONS {
            self.shown.push(format!("Value {value} at '{path}' failed to satisfy constraint: {constraint}"));
        }
    }

    fn summary(&self) -> String {
        let plural = if self.count == 1 { "error" } else { "errors" };
        format!("{} validation {plural} detected: {}", self.count, self.shown.join("; "))
    }

    fn members(
        &mut self,
        members: &'static [Member],
        object: &mut Map<String, Value>,
        at: &str,
    ) -> Result<(), ApiError> {
        object.retain(|_, value| !value.is_null());
        for member in members {
            let path = if at.is_empty() { member.name.to_owned() } else { format!("{at}.{}", member.name) };
            match object.get_mut(member.name) {
                Some(value) => match member.shape {
                    Shape::Integer { min, .. } if member.life => {
                        self.integer_32(*min, self.longest.get() as i32, value, &path)?;
                    }
                    shape => self.value(shape, value, &path)?,
                },
                None if member.required => self.refuse("null", &path, format_args!("Member must not be null")),
                None => {}
            }
        }
        Ok(())
    }

    fn value(&mut self, shape: &'static Shape, value: &mut Value, path: &str) -> Result<(), ApiError> {
        match shape {
            Shape::Text(text) => {
                let content = value.as_str().ok_or_else(ApiError::unparseable)?;
                self.text(text, content, path);
                Ok(())
            }
            Shape::Integer { min, max } => self.integer_32(*min, *max, value, path),
            Shape::Long { min, max } => self.integer(*min, *max, value, path),
            Shape::Boolean => value.as_bool().map(drop).ok_or_else(ApiError::unparseable),
            Shape::Enum(names) => {
                let content = value.as_str().ok_or_else(ApiError::unparseable)?;
                if !names.contains(&content) {
                    let set = names.join(", ");
                    self.refuse(&quoted(content), path, format_args!("Member must satisfy enum value set: [{set}]"));
                }
                Ok(())
            }
            Shape::Structure(members) => {
                let object = value.as_object_mut().ok_or_else(ApiError::unparseable)?;
                self.members(members, object, path)
            }
            Shape::Union(members) => self.union(members, value, path),
            Shape::List { min, max, item } => self.list(*min, *max, item, value, path),
            Shape::Map { max, key, value: each } => self.map(*max, key, each, value, path),
        }
    }

    fn text(&mut self, text: &Text, content: &str, path: &str) {
        let before = self.count;
        let shown = if text.sensitive { "'[redacted]'".to_owned() } else { quoted(content) };
        for constraint in broken(text, content) {
            self.refuse(&shown, path, format_args!("{constraint}"));
        }
        if let (Some(form), true) = (text.form, before == self.count) {
            self.forms.push((form, content.to_owned()));
        }
    }

    fn integer_32(&mut self, min: i32, max: i32, value: &Value, path: &str) -> Result<(), ApiError> {
        if value.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
            return Err(ApiError::unparseable());
        }
        self.integer(i64::from(min), i64::from(max), value, path)
    }

    fn integer(&mut self, min: i64, max: i64, value: &Value, path: &str) -> Result<(), ApiError> {
        let number = value.as_i64().ok_or_else(ApiError::unparseable)?;
        let shown = format!("'{number}'");
        if number < min {
            self.refuse(&shown, path, format_args!("Member must have value greater than or equal to {min}"));
        }
        if number > max {
            self.refuse(&shown, path, format_args!("Member must have value less than or equal to {max}"));
        }
        Ok(())
    }

    fn union(&mut self, members: &'static [Member], value: &mut Value, path: &str) -> Result<(), ApiError> {
        let object = value.as_object_mut().ok_or_else(ApiError::unparseable)?;
        object.retain(|name, value| !value.is_null() && members.iter().any(|member| member.name == name));
        if object.len() != 1 {
            let names = members.iter().map(|member| member.name).collect::<Vec<_>>().join(", ");
            let given = object.keys().cloned().collect::<Vec<_>>().join(", ");
            let constraint = format_args!("Member must have exactly one of [{names}] set");
            self.refuse(&format!("'[{given}]'"), path, constraint);
            return Ok(());
        }
        let flag = |member: &&Member| matches!(member.shape, Shape::Structure([])) && object.contains_key(member.name);
        if members.iter().find(flag).is_some_and(|member| !object[member.name].is_object()) {
            return Err(ApiError::expected_null());
        }
        self.members(members, object, path)
    }

    fn list(
        &mut self,
        min: usize,
        max: usize,
        item: &'static Shape,
        value: &mut Value,
        path: &str,
    ) -> Result<(), ApiError> {
        let items = value.as_array_mut().ok_or_else(ApiError::unparseable)?;
        let shown = format!("'a list of {}'", items.len());
        for constraint in lengths(min, max, items.len()) {
            self.refuse(&shown, path, format_args!("{constraint}"));
        }
        if items.len() > max {
            return Ok(());
        }
        for (index, value) in items.iter_mut().enumerate() {
            let path = format!("{path}.{}.member", index + 1);
            if value.is_null() {
                self.refuse("null", &path, format_args!("Member must not be null"));
            } else {
                self.value(item, value, &path)?;
            }
        }
        Ok(())
    }

    /// Values of maps are never repeated: they may be secrets.
    fn map(&mut self, max: usize, key: &Text, each: &Text, value: &mut Value, path: &str) -> Result<(), ApiError> {
        let entries = value.as_object_mut().ok_or_else(ApiError::unparseable)?;
        let shown = format!("'a map of {}'", entries.len());
        for constraint in lengths(0, max, entries.len()) {
            self.refuse(&shown, path, format_args!("{constraint}"));
        }
        if entries.len() > max {
            return Ok(());
        }
        for (name, content) in entries {
            let of_key = broken(key, name).join(", ");
            if !of_key.is_empty() {
                self.refuse(&quoted(name), path, format_args!("Map keys must satisfy constraint: [{of_key}]"));
            }
            let path = format!("{path}.{}.member", cut(name));
            if content.is_null() {
                self.refuse("null", &path, format_args!("Member must not be null"));
                continue;
            }
            let content = content.as_str().ok_or_else(ApiError::unparseable)?;
            let of_value = broken(each, content).join(", ");
            if !of_value.is_empty() {
                let constraint = format_args!("Map value must satisfy constraint: [{of_value}]");
                self.refuse("'[redacted]'", &path, constraint);
            }
        }
        Ok(())
    }
}

/// The bounds of a text that do not hold.
fn broken(text: &Text, content: &str) -> Vec<String> {
    let mut broken = lengths(text.min, text.max, content.chars().count());
    if let Some(pattern) = text.pattern.filter(|pattern| !(pattern.matches)(content)) {
        broken.push(format!("Member must satisfy regular expression pattern: {}", pattern.text));
    }
    broken
}

fn lengths(min: usize, max: usize, length: usize) -> Vec<String> {
    let mut broken = Vec::new();
    if length < min {
        broken.push(format!("Member must have length greater than or equal to {min}"));
    }
    if length > max {
        broken.push(format!("Member must have length less than or equal to {max}"));
    }
    broken
}

/// A client's value in a message: bounded, and without control characters.
fn cut(text: &str) -> String {
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == bounds::SHOWN_VALUE_CHARS {
            shown.push('…');
            break;
        }
        if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn quoted(text: &str) -> String {
    format!("'{}'", cut(text))
}
