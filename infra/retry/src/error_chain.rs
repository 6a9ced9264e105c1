//! An error with its causes, each told once.

use std::error::Error;

/// The error and its causes on one line, outermost first, as [`error_causes`].
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    error_causes(error).join(": ")
}

/// The error and its causes, outermost first. Some libraries, librdkafka's binding among them, repeat
/// their source's text in their own: what was said already is left out.
#[must_use]
pub fn error_causes(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failure {
        text: &'static str,
        source: Option<Box<Failure>>,
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.text)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.source.as_deref().map(|source| source as _)
        }
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let of = |text, source| Failure { text, source };
        let cause = of("broker transport failure", None);
        let repeats = of("metadata: broker transport failure", Some(Box::new(cause)));
        let error = of("cannot list the topics", Some(Box::new(repeats)));
        let wanted = "cannot list the topics: metadata: broker transport failure";
        assert_eq!(error_chain(&error), wanted);
    }
}
