//! Pooled vectors as they are asked for.

use millrace_models::normalise;

use crate::error::ServeError;

/// What a caller wants of a vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Euclidean norm 1, after the cut.
    pub normalise: bool,
    /// The first so many components, as models trained for it (Matryoshka) allow.
    pub dimensions: Option<usize>,
}

impl Shape {
    /// Whether a vector of `dimension` components can have this shape.
    pub fn fits(self, dimension: usize) -> Result<(), ServeError> {
        match self.dimensions {
            Some(wanted) if !(1..=dimension).contains(&wanted) => Err(ServeError::Invalid {
                param: "dimensions",
                message: format!(
                    "dimensions is {wanted}; this model's vectors have {dimension}, and can be cut to 1 to {dimension}"
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Cuts, then normalises.
    pub fn apply(self, vector: &mut Vec<f32>) {
        if let Some(dimensions) = self.dimensions {
            vector.truncate(dimensions);
        }
        if self.normalise {
            normalise(vector);
        }
    }
}
