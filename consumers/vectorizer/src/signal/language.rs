//! The language of a text: detected, because declarations are often a template's default.

/// Texts shorter than this many characters are too short to tell.
const MIN_CHARACTERS: usize = 24;

/// What is read of a long text, bytes.
const MAX_BYTES: usize = 8 * 1024;

/// ISO 639-1 code where whatlang is confident; else the primary subtag of what the document
/// declares, where it declares anything.
pub(super) fn language(text: &str, declared: Option<&str>) -> Option<String> {
    let sample = &text[..text.floor_char_boundary(MAX_BYTES)];
    let detected = (sample.chars().count() >= MIN_CHARACTERS)
        .then(|| whatlang::detect(sample))
        .flatten()
        .filter(whatlang::Info::is_reliable)
        .and_then(|info| two_letters(info.lang().code()));
    detected.map(str::to_owned).or_else(|| {
        let primary = declared?.split(['-', '_']).next()?.to_ascii_lowercase();
        if primary.len() == 3 {
            return two_letters(&primary).map(str::to_owned);
        }
        (primary.len() == 2 && primary.bytes().all(|b| b.is_ascii_alphabetic())).then_some(primary)
    })
}

/// ISO 639-3 (whatlang's) to ISO 639-1, as HTML, OpenSearch and people write it.
fn two_letters(code: &str) -> Option<&'static str> {
    Some(match code {
        "afr" => "af",
        "aka" => "ak",
        "amh" => "am",
        "ara" => "ar",
        "aze" => "az",
        "bel" => "be",
        "ben" => "bn",
        "bul" => "bg",
        "cat" => "ca",
        "ces" => "cs",
        "cmn" | "zho" => "zh",
        "cym" => "cy",
        "dan" => "da",
        "deu" => "de",
        "ell" => "el",
        "eng" => "en",
        "epo" => "eo",
        "est" => "et",
        "fin" => "fi",
        "fra" => "fr",
        "guj" => "gu",
        "heb" => "he",
        "hin" => "hi",
        "hrv" => "hr",
        "hun" => "hu",
        "hye" => "hy",
        "ind" => "id",
        "ita" => "it",
        "jav" => "jv",
        "jpn" => "ja",
        "kan" => "kn",
        "kat" => "ka",
        "khm" => "km",
        "kor" => "ko",
        "lat" => "la",
        "lav" => "lv",
        "lit" => "lt",
        "mal" => "ml",
        "mar" => "mr",
        "mkd" => "mk",
        "mya" => "my",
        "nep" => "ne",
        "nld" => "nl",
        "nob" => "nb",
        "ori" => "or",
        "pan" => "pa",
        "pes" => "fa",
        "pol" => "pl",
        "por" => "pt",
        "ron" => "ro",
        "rus" => "ru",
        "sin" => "si",
        "slk" => "sk",
        "slv" => "sl",
        "sna" => "sn",
        "spa" => "es",
        "srp" => "sr",
        "swe" => "sv",
        "tam" => "ta",
        "tel" => "te",
        "tgl" => "tl",
        "tha" => "th",
        "tuk" => "tk",
        "tur" => "tr",
        "ukr" => "uk",
        "urd" => "ur",
        "uzb" => "uz",
        "vie" => "vi",
        "yid" => "yi",
        "zul" => "zu",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_detected_and_short_ones_declared() {
        let french = "Les habitants du village se sont réunis hier soir pour parler de l’avenir de leur école.";
        assert_eq!(language(french, Some("en")).as_deref(), Some("fr"));
        let chinese = "机器学习是人工智能的一个分支，研究如何从数据中学习规律并做出预测和决策。";
        assert_eq!(language(chinese, None).as_deref(), Some("zh"));
        assert_eq!(language("Hi", Some("de-CH")).as_deref(), Some("de"));
        assert_eq!(language("Hi", None), None);
    }

    #[test]
    fn every_language_that_is_detected_has_a_code() {
        for lang in whatlang::Lang::all() {
            assert!(two_letters(lang.code()).is_some(), "{}", lang.code());
        }
    }
}
