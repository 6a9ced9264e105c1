//! The sentence encoder, its tokenizer and the model store.
