//! Texts with wildcards, and texts that are compared without regard to case.

/// A text in which `*` stands for any characters.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wildcard(Vec<String>);

impl Wildcard {
    /// Parses a text. `\*` and `\\` stand for the characters themselves. Returns what is wrong.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let (mut parts, mut characters, mut is_star) = (vec![String::new()], text.chars(), false);
        while let Some(character) = characters.next() {
            let was_star = std::mem::replace(&mut is_star, character == '*');
            let literal = match character {
                '*' if was_star => return Err("has two wildcards in a row"),
                '*' => {
                    parts.push(String::new());
                    continue;
                }
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '\\')) => escaped,
                    _ => return Err("has an invalid escape"),
                },
                other => other,
            };
            if let Some(last) = parts.last_mut() {
                last.push(literal);
            }
        }
        Ok(Self(parts))
    }

    /// Whether the text matches as a whole.
    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only == text);
        };
        let Some(rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        let mut rest = rest;
        middle.iter().all(|part| {
            let found = rest.split_once(part.as_str());
            rest = found.map_or("", |(_, after)| after);
            found.is_some()
        })
    }
}

/// A text whose characters match in lower and in upper case. As in the matcher, only the characters of the pattern are
/// converted.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct AnyCase(Vec<[String; 2]>);

impl AnyCase {
    /// Returns `None` for characters outside the basic plane, which the matcher takes for question marks.
    pub(super) fn new(text: &str) -> Option<Self> {
        let both = |character: char| [character.to_lowercase().to_string(), character.to_uppercase().to_string()];
        text.chars().all(|character| character.len_utf16() == 1).then(|| Self(text.chars().map(both).collect()))
    }

    /// Whether the whole text matches.
    pub(super) fn equals(&self, text: &str) -> bool {
        self.ends(text, vec![0]).contains(&text.len())
    }

    /// Whether the start of the text matches.
    pub(super) fn starts(&self, text: &str) -> bool {
        !self.ends(text, vec![0]).is_empty()
    }

    /// Whether the end of the text matches.
    pub(super) fn finishes(&self, text: &str) -> bool {
        self.ends(text, text.char_indices().map(|(at, _)| at).collect()).contains(&text.len())
    }

    /// Where the matches end that begin at these positions.
    fn ends(&self, text: &str, starts: Vec<usize>) -> Vec<usize> {
        self.0.iter().fold(starts, |positions, forms| {
            let after = |at: usize| {
                let rest = text.get(at..).unwrap_or_default();
                forms.iter().filter(move |form| rest.starts_with(form.as_str())).map(move |form| at + form.len())
            };
            positions.into_iter().flat_map(after).collect()
        })
    }
}
