//! Paths into JSON documents.
//!
//! - The empty path is the whole document. A path that starts with `/` is a JSON Pointer (RFC 6901): `/a/b~1c/2`. Any
//!   other is dotted: keys separated by dots, indexes in brackets: `a.b[2].c`, `[0]`. A key that is empty or has a dot or a
//!   bracket in it needs the pointer.
//! - A segment is a text. What is there decides what it means: in an object a key, in an array an index in decimal,
//!   without leading zeros.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Json;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::base::value::Text;

/// A path into a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Path(Vec<Text>);

impl Path {
    /// Reads a path in either form.
    ///
    /// # Errors
    /// `InvalidOperation` if it is none, `LimitExceeded` if it has too many segments.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let path = if text.is_empty() {
            Self::default()
        } else if let Some(pointer) = text.strip_prefix('/') {
            Self(pointer.split('/').map(unescaped).collect::<Option<_>>().ok_or_else(|| bad(text, "a stray tilde"))?)
        } else {
            dotted(text)?
        };
        path.checked()
    }

    /// A path of these segments.
    ///
    /// # Errors
    /// `LimitExceeded` if they are too many.
    pub(crate) fn of(segments: impl IntoIterator<Item = Text>) -> Result<Self> {
        Self(segments.into_iter().collect()).checked()
    }

    fn checked(self) -> Result<Self> {
        if self.0.len() > limits::JSON_SEGMENTS {
            return Err(Error::limit("path segments", limits::JSON_SEGMENTS, self.0.len()));
        }
        Ok(self)
    }

    pub(crate) fn segments(&self) -> &[Text] {
        &self.0
    }

    /// About how many bytes it takes in the log, with what an edit takes beside its value.
    pub(crate) fn weight(&self) -> usize {
        self.0.iter().map(|segment| segment.len() + 8).sum::<usize>() + 16
    }

    pub(crate) const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    /// The path of a member.
    pub(crate) fn child(&self, segment: Text) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }

    /// Whether the other is strictly inside.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }
}

/// As a JSON Pointer.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1")))
    }
}

impl Json {
    /// What is at a path.
    pub(crate) fn at(&self, path: &[Text]) -> Option<&Self> {
        path.iter().try_fold(self, |value, segment| match value {
            Self::Object(object) => object.get(segment),
            Self::Array(array) => array.items().get(index(segment)?),
            _ => None,
        })
    }
}

/// The index that a segment names in an array.
pub(crate) fn index(segment: &str) -> Option<usize> {
    let is_canonical = segment == "0" || segment.starts_with(|first: char| matches!(first, '1'..='9'));
    segment.parse().ok().filter(|_| is_canonical)
}

fn unescaped(segment: &str) -> Option<Text> {
    if !segment.contains('~') {
        return Some(segment.into());
    }
    let (first, escapes) = segment.split_once('~')?;
    let mut whole = first.to_owned();
    for escape in escapes.split('~') {
        let (letter, rest) = (escape.get(..1)?, escape.get(1..)?);
        whole.push(match letter {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        whole.push_str(rest);
    }
    Some(whole.into())
}

fn dotted(text: &str) -> Result<Path> {
    let mut segments = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let is_bare_index = segments.is_empty() && behind.starts_with('[');
        if !key.is_empty() {
            segments.push(key.into());
        } else if !is_bare_index {
            return Err(bad(text, "an empty key"));
        }
        rest = behind;
        while let Some(behind) = rest.strip_prefix('[') {
            let Some((number, behind)) = behind.split_once(']') else { return Err(bad(text, "an open bracket")) };
            if index(number).is_none() {
                return Err(bad(text, "no index in brackets"));
            }
            segments.push(number.into());
            rest = behind;
        }
        match rest.strip_prefix('.') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(Path(segments)),
            None => return Err(bad(text, "something behind a bracket")),
        }
    }
}

fn bad(text: &str, what: &str) -> Error {
    let expected = "it is neither a JSON Pointer nor dotted";
    Error::InvalidOperation(format!("the path cannot be read, {expected}: path={text:?} found={what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn segments(text: &str) -> Vec<String> {
        Path::parse(text).unwrap().segments().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn both_forms_name_the_same_places() {
        assert!(segments("").is_empty());
        for (pointer, dotted) in [("/a/b/2", "a.b[2]"), ("/a", "a"), ("/0/1", "[0][1]"), ("/a/0/b/1", "a[0].b[1]")] {
            assert_eq!(segments(pointer), segments(dotted), "{pointer} {dotted}");
        }
        assert_eq!(segments("ä b"), ["ä b"]);
        assert_eq!(segments("/"), [""]);
        assert_eq!(segments("/a//b"), ["a", "", "b"]);
        assert_eq!(segments("/a.b[0]/c"), ["a.b[0]", "c"]);
        assert_eq!(segments("/~0~1/~01"), ["~/", "~1"]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in
            [".", "a.", ".a", "a..b", "a[", "a]", "a[]", "a[x]", "a[01]", "a[-1]", "a[0]b", "a.[0]", "/~", "/~2"]
        {
            assert!(matches!(Path::parse(text), Err(Error::InvalidOperation(_))), "{text}");
        }
        assert!(Path::parse(&"/a".repeat(256)).is_ok());
        assert!(matches!(Path::parse(&"/a".repeat(257)), Err(Error::LimitExceeded { .. })));
    }

    #[test]
    fn a_path_is_shown_as_the_pointer_that_names_it() {
        for pointer in ["", "/", "/a/b~1c/~0", "/a//0"] {
            assert_eq!(Path::parse(pointer).unwrap().to_string(), pointer);
        }
    }

    #[test]
    fn what_is_there_decides_what_a_segment_means() {
        let document = Json::from_value(json!({"a": [10, {"0": "key"}], "": 1, "01": 2})).unwrap();
        let at = |text: &str| document.at(Path::parse(text).unwrap().segments()).map(Json::to_value);
        assert_eq!(at("a[0]"), Some(json!(10)));
        assert_eq!(at("/a/1/0"), Some(json!("key")));
        assert_eq!(at("/"), Some(json!(1)));
        assert_eq!(at("/01"), Some(json!(2)));
        for nothing in ["/a/2", "/a/-", "/a/01", "/a/+1", "/a/x", "/b", "/a/0/0", "/a/18446744073709551616"] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
    }
}
