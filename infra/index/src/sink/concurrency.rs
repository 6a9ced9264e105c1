//! How many bulk requests may be in flight: additive increase, multiplicative decrease.

/// A limit that grows by one a smooth batch and halves on an overloaded one.
#[derive(Debug)]
pub(crate) struct Aimd {
    limit: usize,
    max: usize,
}

impl Aimd {
    /// Starts at one, never above `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            limit: 1,
            max: max.max(1),
        }
    }

    /// Requests that may be in flight now.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A batch passed without an item to send again.
    pub(crate) fn smooth(&mut self) {
        self.limit = (self.limit + 1).min(self.max);
    }

    /// A batch met an overloaded or absent server.
    pub(crate) fn overloaded(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_one_and_halves_within_bounds() {
        let mut aimd = Aimd::new(16);
        assert_eq!(aimd.limit(), 1);
        (0..40).for_each(|_| aimd.smooth());
        assert_eq!(aimd.limit(), 16);
        aimd.overloaded();
        assert_eq!(aimd.limit(), 8);
        (0..9).for_each(|_| aimd.overloaded());
        assert_eq!(aimd.limit(), 1);
    }
}
