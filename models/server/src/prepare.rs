//! Texts to the token sequences that the encoder reads, within the limits.

use millrace_models::Tokenizer;

use crate::error::ServeError;
use crate::inputs::Inputs;
use crate::registry::Served;

/// No ordinary text has tokens of this many bytes on average, so what a model can see of a text is
/// within its tokens times this.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// Bytes of a token in ordinary English, about.
pub(crate) const USUAL_BYTES_PER_TOKEN: usize = 4;

/// About how many tokens each input has, before any is read: where there is no room for them, it is
/// not worth reading.
pub(crate) fn estimate(model: &Served, inputs: &Inputs) -> Vec<usize> {
    let tokenizer = model.encoder().tokenizer();
    let framed = |own: usize| {
        let tokens = own.saturating_add(tokenizer.special_tokens());
        tokens.clamp(1, tokenizer.max_tokens())
    };
    match inputs {
        Inputs::Texts(texts) => texts
            .iter()
            .map(|text| framed(text.len() / USUAL_BYTES_PER_TOKEN))
            .collect(),
        Inputs::Tokens(sequences) => sequences.iter().map(|ids| framed(ids.len())).collect(),
    }
}

/// How texts are read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Cut what is longer than the model reads.
    pub truncate: bool,
    /// Goes before each text.
    pub prompt: Option<String>,
    /// Longest text that is counted where it must not be cut, bytes.
    pub max_text_bytes: usize,
}

/// The sequences of all inputs, in order. Blocks: it takes some 50 µs for 100 words.
pub(crate) fn prepare(
    model: &Served,
    inputs: &Inputs,
    reading: &Reading,
) -> Result<Vec<Vec<u32>>, ServeError> {
    if inputs.len() == 0 {
        return Err(ServeError::Empty);
    }
    match inputs {
        Inputs::Texts(texts) => texts
            .iter()
            .enumerate()
            .map(|(index, text)| sequence(model.encoder().tokenizer(), index, text, reading))
            .collect(),
        Inputs::Tokens(sequences) => sequences
            .iter()
            .enumerate()
            .map(|(index, ids)| framed(model, index, ids, reading))
            .collect(),
    }
}

/// What a model could see of a text, which is all that is worth reading; the bytes of one that must not
/// be cut and has too many.
pub(crate) fn visible<'a>(
    tokenizer: &Tokenizer,
    text: &'a str,
    reading: &Reading,
) -> Result<&'a str, usize> {
    if reading.truncate {
        let bytes = tokenizer.max_tokens().saturating_mul(MAX_BYTES_PER_TOKEN);
        return Ok(&text[..text.floor_char_boundary(bytes)]);
    }
    if text.len() > reading.max_text_bytes {
        return Err(text.len());
    }
    Ok(text)
}

fn sequence(
    tokenizer: &Tokenizer,
    index: usize,
    text: &str,
    reading: &Reading,
) -> Result<Vec<u32>, ServeError> {
    if text.is_empty() {
        return Err(ServeError::Empty);
    }
    let prompted;
    let text = match &reading.prompt {
        Some(prompt) => {
            prompted = format!("{prompt}{text}");
            &prompted
        }
        None => text,
    };
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| ServeError::Tokenizer {
        index,
        reason: source.to_string(),
    };
    let limit = tokenizer.max_tokens();
    let text = visible(tokenizer, text, reading).map_err(|found| ServeError::TooManyBytes {
        index,
        found,
        limit: reading.max_text_bytes,
    })?;
    if reading.truncate {
        return tokenizer.encode(text).map_err(refused);
    }
    let sequence = tokenizer.encode_uncut(text).map_err(refused)?;
    let found = sequence.len();
    if found > limit {
        return Err(ServeError::TooManyTokens {
            index,
            found,
            limit,
        });
    }
    Ok(sequence)
}

fn framed(
    model: &Served,
    index: usize,
    ids: &[u32],
    reading: &Reading,
) -> Result<Vec<u32>, ServeError> {
    if ids.is_empty() {
        return Err(ServeError::Empty);
    }
    if reading.prompt.is_some() {
        return Err(ServeError::Invalid {
            param: "prompt_name",
            message: "a prompt goes before a text; token ids can't have one".to_owned(),
        });
    }
    let vocabulary = model.encoder().vocabulary();
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        return Err(ServeError::Invalid {
            param: "input",
            message: format!(
                "input {index} holds token id {id}; this model's vocabulary ends at {}",
                vocabulary - 1
            ),
        });
    }
    let tokenizer = model.encoder().tokenizer();
    let limit = tokenizer.max_tokens();
    let room = limit.saturating_sub(tokenizer.special_tokens());
    if ids.len() > room && !reading.truncate {
        return Err(ServeError::TooManyTokens {
            index,
            found: ids.len() + tokenizer.special_tokens(),
            limit,
        });
    }
    Ok(tokenizer.frame(&ids[..ids.len().min(room)]))
}
