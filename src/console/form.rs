//! What a form or an address says, read leniently: an empty field is one that was left out.

use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;

use super::MAX_FORM_BYTES;
use super::error::PageError;

/// More than any form of the console has.
const MAX_FIELDS: usize = 100;

/// Named texts, as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Of a body or a query.
    ///
    /// # Errors
    /// It is no form of ours.
    pub fn parse(bytes: &[u8]) -> Result<Self, PageError> {
        // Each takes some hundred bytes of memory for two of a body.
        if bytes.iter().filter(|byte| **byte == b'&').count() >= MAX_FIELDS {
            return Err(PageError::invalid("The form has too many fields."));
        }
        serde_urlencoded::from_bytes(bytes)
            .map(Self)
            .map_err(|_| PageError::invalid("This is no form of the console."))
    }

    /// What a field holds; nothing where it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(field, _)| field == name);
        let text = named.next().map(|(_, value)| value.trim())?;
        (!text.is_empty()).then_some(text)
    }

    /// What a field holds, spaces and all; the empty text where it is absent.
    pub fn raw(&self, name: &str) -> &str {
        let mut named = self.0.iter().filter(|(field, _)| field == name);
        named.next().map_or("", |(_, value)| value)
    }

    /// What a field holds, read.
    ///
    /// # Errors
    /// It does not read as what it should be; `label` names it to a person.
    pub fn read<T: FromStr>(&self, name: &str, label: &str) -> Result<Option<T>, PageError>
    where
        T::Err: std::fmt::Display,
    {
        self.read_by(name, label, T::from_str)
    }

    /// As [`read`](Self::read), by this function.
    ///
    /// # Errors
    /// It does not read as what it should be.
    pub fn read_by<T, E: std::fmt::Display>(
        &self,
        name: &str,
        label: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, PageError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let read = read(text).map(Some);
        read.map_err(|error| {
            PageError::invalid(format!("{label}: {text:?} can't be read: {error}"))
        })
    }

    /// The same fields with others in place of those of the same name; an empty value removes one.
    pub fn with(&self, changes: &[(&str, &str)]) -> String {
        let kept = self.0.iter().filter(|(name, value)| {
            !value.is_empty() && changes.iter().all(|(changed, _)| changed != name)
        });
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let set = changes
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty());
        let pairs: Vec<(&str, &str)> = kept.chain(set).collect();
        // Texts can always be encoded.
        serde_urlencoded::to_string(pairs).unwrap_or_default()
    }

    /// The same fields without those of these names.
    pub fn without(&self, names: &[&str]) -> Self {
        let kept = self
            .0
            .iter()
            .filter(|(name, _)| !names.contains(&name.as_str()));
        Self(kept.cloned().collect())
    }

    /// All of them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The fields of an address.
pub struct Asked(pub Fields);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, PageError> {
        let query = parts.uri.query().unwrap_or_default();
        Fields::parse(query.as_bytes()).map(Self)
    }
}

/// The fields of a form that was posted.
pub struct Posted(pub Fields);

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = PageError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, PageError> {
        let body = axum::body::to_bytes(request.into_body(), MAX_FORM_BYTES).await;
        let body = body.map_err(|_| PageError::invalid("The form can't be read whole."))?;
        Fields::parse(&body).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_is_left_out() {
        let fields = Fields::parse(b"a=+1+&b=&c=%3Cx%3E&a=2").unwrap();
        assert_eq!(fields.text("a"), Some("1"));
        assert_eq!((fields.text("b"), fields.text("d")), (None, None));
        assert_eq!(fields.raw("a"), " 1 ");
        assert_eq!(fields.read::<u32>("a", "A").ok(), Some(Some(1)));
        assert!(fields.read::<u32>("c", "C").is_err());
    }

    #[test]
    fn a_form_of_thousands_of_fields_is_refused() {
        assert!(Fields::parse("a&".repeat(1_000).as_bytes()).is_err());
    }

    #[test]
    fn fields_change_and_stay() {
        let fields = Fields::parse(b"key=a%26b&older=0%3A1&text=").unwrap();
        assert_eq!(fields.with(&[("older", "")]), "key=a%26b");
        assert_eq!(fields.with(&[("older", "1:2")]), "key=a%26b&older=1%3A2");
    }
}
