//! A profile as a store keeps it.

use super::Profile;

/// The first byte of a stored profile. Raised with every change of shape.
const FORMAT: u8 = 2;
/// The format before, which had no position. Its fields are the first of today's.
const WITHOUT_POSITION: u8 = 1;
/// What follows them where nobody knows: no position, and vectors that may have been made anew.
const UNKNOWN_POSITION: [u8; 2] = [0, 1];

/// A value that is no profile of this version.
#[derive(Debug, thiserror::Error)]
pub enum ProfileFormatError {
    /// It has another format; rebuild the profiles from `feedback`.
    #[error(
        "profile has format {found}, this version reads {FORMAT}: rebuild profiles from feedback"
    )]
    Format {
        /// Its first byte.
        found: u8,
    },
    /// It ends early or holds what no profile holds.
    #[error("profile is broken")]
    Broken(#[source] postcard::Error),
}

impl Profile {
    /// As a store keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT])
            .expect("a profile's parts all have postcard's shapes")
    }

    /// What [`Profile::to_bytes`] made, of this version or the one before.
    ///
    /// # Errors
    /// [`ProfileFormatError`] when it was made by another version, or is broken.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProfileFormatError> {
        match bytes.split_first() {
            Some((&FORMAT, profile)) => {
                postcard::from_bytes(profile).map_err(ProfileFormatError::Broken)
            }
            Some((&WITHOUT_POSITION, profile)) => {
                let profile = [profile, &UNKNOWN_POSITION].concat();
                postcard::from_bytes(&profile).map_err(ProfileFormatError::Broken)
            }
            found => Err(ProfileFormatError::Format {
                found: found.map_or(0, |(&format, _)| format),
            }),
        }
    }
}
