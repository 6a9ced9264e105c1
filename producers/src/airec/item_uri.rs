//! The URI of a document that is a row of an item table: `airec://{instance}/item/{item_id}`.
//!
//! It names no object: there is nothing to fetch, and no allow-list to pass. In its normal form all
//! of the item but letters, digits and `-._~` is percent-encoded, a slash too.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const SCHEME: &str = "airec://";
const TABLE: &str = "/item/";

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The URI of this row.
#[must_use]
pub fn item_uri(instance: &str, item: &str) -> String {
    let item = utf8_percent_encode(item, ENCODED);
    format!("{SCHEME}{instance}{TABLE}{item}")
}

/// Instance and item of such a URI, decoded; `None` of any other text.
#[must_use]
pub fn parse(uri: &str) -> Option<(String, String)> {
    let (instance, item) = uri.strip_prefix(SCHEME)?.split_once(TABLE)?;
    let item = percent_decode_str(item).decode_utf8().ok()?;
    let named = is_instance(instance) && !item.is_empty();
    named.then(|| (instance.to_owned(), item.into_owned()))
}

/// Whether this can be an instance's id: 1 to 64 of letters, digits, `-`, `_` and `.`.
#[must_use]
pub fn is_instance(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_one_name() {
        let uri = item_uri("shop-1", "a/b #ü%");
        assert_eq!(uri, "airec://shop-1/item/a%2Fb%20%23%C3%BC%25");
        assert_eq!(parse(&uri), Some(("shop-1".into(), "a/b #ü%".into())));
        for other in [
            "airec://shop/item/",
            "airec:///item/7",
            "airec://a b/item/7",
            "airec://shop/user/7",
            "airec://shop/item/%FF",
            "oss://shop/item/7",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
