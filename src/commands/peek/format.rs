//! How a record is printed: [kcat's](https://github.com/edenhill/kcat) format strings, and `%v`.

use std::str::FromStr;

use millrace_kafka::Record;

use crate::output::printable;
use crate::records::decoded;

/// A format string, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Bytes(Vec<u8>),
    Topic,
    Partition,
    Offset,
    TimeMs,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Decoded,
    Headers,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut tokens = Vec::new();
        let mut bytes = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => bytes.push(escaped(&mut characters)?),
                '%' => {
                    let token = match characters.next() {
                        Some('%') => {
                            bytes.push(b'%');
                            continue;
                        }
                        Some(letter) => token(letter)?,
                        None => return Err("it ends with a %; %% is one".to_owned()),
                    };
                    if !bytes.is_empty() {
                        tokens.push(Token::Bytes(std::mem::take(&mut bytes)));
                    }
                    tokens.push(token);
                }
                other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        if !bytes.is_empty() {
            tokens.push(Token::Bytes(bytes));
        }
        Ok(Self(tokens))
    }
}

fn token(letter: char) -> Result<Token, String> {
    Ok(match letter {
        't' => Token::Topic,
        'p' => Token::Partition,
        'o' => Token::Offset,
        'T' => Token::TimeMs,
        'k' => Token::Key,
        'K' => Token::KeyLength,
        's' => Token::Value,
        'S' => Token::ValueLength,
        'v' => Token::Decoded,
        'h' => Token::Headers,
        other => {
            return Err(format!(
                "there is no %{other}; there are %t %p %o %T %k %K %s %S %v %h and %%"
            ));
        }
    })
}

fn escaped(characters: &mut std::str::Chars<'_>) -> Result<u8, String> {
    Ok(match characters.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = characters.by_ref().take(2).collect();
            let is_whole = digits.len() == 2;
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| is_whole);
            byte.ok_or_else(|| format!("\\x{digits} is no byte; it takes two hex digits"))?
        }
        other => {
            let other = other.map(String::from).unwrap_or_default();
            return Err(format!(
                "there is no \\{other}; there are \\n \\t \\r \\0 \\\\ and \\xNN"
            ));
        }
    })
}

impl Format {
    /// A record in this format. What a terminal would obey is escaped for one, and given as it is to
    /// a program.
    pub fn fill(&self, record: &Record, for_terminal: bool) -> Vec<u8> {
        let mut filled = Vec::new();
        for token in &self.0 {
            match token {
                Token::Bytes(bytes) => filled.extend(bytes),
                Token::Topic => filled.extend(record.topic.bytes()),
                Token::Partition => filled.extend(record.partition.to_string().bytes()),
                Token::Offset => filled.extend(record.offset.to_string().bytes()),
                Token::TimeMs => {
                    filled.extend(record.timestamp_ms.unwrap_or(-1).to_string().bytes());
                }
                Token::Key => put(&mut filled, record.key.as_deref(), for_terminal),
                Token::KeyLength => filled.extend(length(record.key.as_deref()).bytes()),
                Token::Value => put(&mut filled, record.value.as_deref(), for_terminal),
                Token::ValueLength => filled.extend(length(record.value.as_deref()).bytes()),
                Token::Decoded => {
                    let value = record.value.as_deref().map(decoded);
                    let value = value.unwrap_or_default().to_string();
                    put(&mut filled, Some(value.as_bytes()), for_terminal);
                }
                Token::Headers => headers(&mut filled, record, for_terminal),
            }
        }
        filled
    }
}

/// `name=value,name=value`; a header without a value is `name=`.
fn headers(filled: &mut Vec<u8>, record: &Record, for_terminal: bool) {
    for (number, (name, value)) in record.headers.iter().enumerate() {
        if number > 0 {
            filled.push(b',');
        }
        put(filled, Some(name.as_bytes()), for_terminal);
        filled.push(b'=');
        put(filled, value.as_deref(), for_terminal);
    }
}

fn put(filled: &mut Vec<u8>, bytes: Option<&[u8]>, for_terminal: bool) {
    let bytes = bytes.unwrap_or_default();
    if for_terminal {
        filled.extend(printable(&String::from_utf8_lossy(bytes)).bytes());
    } else {
        filled.extend(bytes);
    }
}

/// As kcat has it, -1 where there is none.
fn length(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.len().to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record() -> Record {
        Record {
            topic: "documents".to_owned(),
            partition: 3,
            offset: 17,
            timestamp_ms: Some(1_000),
            key: Some(Bytes::from_static(b"a\x1b[2J")),
            value: None,
            headers: vec![
                ("one".to_owned(), Some(Bytes::from_static(b"1"))),
                ("none".to_owned(), None),
            ],
        }
    }

    fn filled(format: &str, for_terminal: bool) -> Vec<u8> {
        format
            .parse::<Format>()
            .unwrap()
            .fill(&record(), for_terminal)
    }

    #[test]
    fn each_letter_stands_for_its_part() {
        let all = filled("%t/%p@%o %T %K %S %h %v%%\\t\\x41\\n", false);
        assert_eq!(
            String::from_utf8(all).unwrap(),
            "documents/3@17 1000 5 -1 one=1,none= null%\tA\n"
        );
    }

    #[test]
    fn bytes_are_a_programs_and_escapes_a_terminals() {
        assert_eq!(filled("%k", false), b"a\x1b[2J");
        assert_eq!(filled("%k", true), b"a\\u{1b}[2J");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for wrong in ["%", "%q", "\\q", "\\x4", "\\xzz", "\\"] {
            assert!(wrong.parse::<Format>().is_err(), "{wrong:?}");
        }
    }
}
