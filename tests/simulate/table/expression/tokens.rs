//! The tokens of an expression.

use super::super::DynamoError;

/// A token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// `#name`, with its sign.
    Name(String),
    /// `:value`, with its sign.
    Value(String),
    /// A keyword or function name, as written.
    Word(String),
    /// `(`, `)`, `,` or a comparison operator.
    Sign(&'static str),
}

const SIGNS: [&str; 9] = ["<>", "<=", ">=", "<", ">", "=", "(", ")", ","];

/// Splits an expression into tokens.
pub(crate) fn tokens(expression: &str) -> Result<Vec<Token>, DynamoError> {
    let (mut found, mut rest) = (Vec::new(), expression.trim_start());
    while let Some(first) = rest.chars().next() {
        let (token, length) = match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            Some(sign) => (Token::Sign(sign), sign.len()),
            None => word(rest, first)?,
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn word(rest: &str, first: char) -> Result<(Token, usize), DynamoError> {
    let sign = usize::from(matches!(first, '#' | ':'));
    let body = rest[sign..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let word = rest[..sign + body].to_owned();
    match first {
        _ if body == 0 => Err(DynamoError::validation(format!("Syntax error; token: \"{first}\", near: \"{rest}\""))),
        '#' => Ok((Token::Name(word), sign + body)),
        ':' => Ok((Token::Value(word), sign + body)),
        _ => Ok((Token::Word(word), body)),
    }
}
