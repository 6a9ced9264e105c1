//! What is to be embedded, as OpenAI and TEI both write it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// A text, texts, the token ids of a text, or those of several texts; ids are a text's own, without
/// those that the model adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inputs {
    Texts(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

impl Inputs {
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(sequences) => sequences.len(),
        }
    }
}

/// One element of the array.
enum Element {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, a token id or an array of token ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Element, E> {
                match u32::try_from(id) {
                    Ok(id) => Ok(Element::Id(id)),
                    Err(_) => Err(E::custom(format_args!("{id} is no token id"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = array.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Ids(ids))
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor;
        impl<'de> Visitor<'de> for InputsVisitor {
            type Value = Inputs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "a text, an array of texts, an array of token ids or an array of such arrays",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs::Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Inputs, A::Error> {
                let mixed = || A::Error::custom("texts and token ids can't be mixed in one array");
                match array.next_element()? {
                    None => Ok(Inputs::Texts(Vec::new())),
                    Some(Element::Text(first)) => {
                        let mut texts = vec![first];
                        while let Some(element) = array.next_element()? {
                            let Element::Text(text) = element else {
                                return Err(mixed());
                            };
                            texts.push(text);
                        }
                        Ok(Inputs::Texts(texts))
                    }
                    Some(Element::Id(first)) => {
                        let mut ids = vec![first];
                        while let Some(element) = array.next_element()? {
                            let Element::Id(id) = element else {
                                return Err(mixed());
                            };
                            ids.push(id);
                        }
                        Ok(Inputs::Tokens(vec![ids]))
                    }
                    Some(Element::Ids(first)) => {
                        let mut sequences = vec![first];
                        while let Some(element) = array.next_element()? {
                            let Element::Ids(ids) = element else {
                                return Err(mixed());
                            };
                            sequences.push(ids);
                        }
                        Ok(Inputs::Tokens(sequences))
                    }
                }
            }
        }
        deserializer.deserialize_any(InputsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_forms_are_read_and_others_named() {
        let read = |json: &str| serde_json::from_str::<Inputs>(json);
        let texts = |texts: &[&str]| Inputs::Texts(texts.iter().map(|t| (*t).to_owned()).collect());
        assert_eq!(read(r#""a""#).unwrap(), texts(&["a"]));
        assert_eq!(read(r#"["a","b"]"#).unwrap(), texts(&["a", "b"]));
        assert_eq!(read("[]").unwrap(), texts(&[]));
        assert_eq!(read("[1,2]").unwrap(), Inputs::Tokens(vec![vec![1, 2]]));
        assert_eq!(
            read("[[1],[2,3]]").unwrap(),
            Inputs::Tokens(vec![vec![1], vec![2, 3]])
        );
        for (json, says) in [
            ("7", "expected a text"),
            ("null", "expected a text"),
            (r#"{"a":1}"#, "expected a text"),
            (r#"["a",1]"#, "can't be mixed"),
            ("[-1]", "expected a text, a token id"),
            ("[4294967296]", "no token id"),
            ("[[1],[\"a\"]]", "expected u32"),
        ] {
            let refused = read(json).unwrap_err().to_string();
            assert!(refused.contains(says), "{json}: {refused}");
        }
    }
}
