//! Object storage: names of objects, conditional reads and listings.
//!
//! For the fetching stage of a consumer and for producers that list: one [`ObjectStores`] reads
//! local folders (`file://`), Alibaba Cloud OSS (`oss://`) and S3-compatible stores (`s3://`).
//!
//! Promises:
//! - **One name an object.** [`ObjectUri`] is always in its normal form, so equal objects have equal
//!   text, and a document id made from it is stable.
//! - **Only what is allowed is read.** Everything goes through an [`AllowList`] of buckets and root
//!   folders; `..`, and symbolic links that lead out of every root, are refused.
//! - **One version a read.** The bytes returned belong to the tag returned with them: by `If-Match`
//!   on a bucket, by comparing (size, mtime, inode) before and after on a folder.
//! - **Bounded memory.** The size cap is enforced on the bytes as they arrive, whatever the headers
//!   claimed.
//! - **Absent means absent.** [`ReadError::NotFound`] is said of an object, never of a missing
//!   bucket or of a root folder that is gone (an unmounted disk): those are
//!   [`ReadError::Unavailable`], since a consumer answers `NotFound` with a removal.
//!
//! It leaves to others: retrying (a read is one attempt; only the pages of a listing are retried
//! here), and what an object's bytes mean. [`ObjectWriter`] writes one object; the canary alone has one.
//!
//! Buckets are reached through OpenDAL. It signs for S3 (AWS SigV4) and finds the credentials. Its
//! OSS service knows the signature V1 only, so requests to OSS are signed here, with V4, on their way
//! out; reqsign, which OpenDAL uses too, finds the credentials.
//! Folders are read with the standard library: OpenDAL's `fs` has no tag, follows links out of its
//! root, creates a root that is missing, and turns names that are not UTF-8 into other names.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod allow;
mod bucket;
mod config;
mod error;
mod folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod oss_v4;
mod stores;
mod streaming;
mod uri;
mod writer;

pub use allow::AllowList;
pub use config::{ConfigError, ObjectStoresConfig, OssConfig, S3Config, Secret};
pub use error::ReadError;
pub use stores::{ListError, Object, ObjectEntry, ObjectMeta, ObjectStores};
pub use streaming::ObjectStream;
pub use uri::{BucketService, Location, ObjectUri, UriError};
pub use writer::{ObjectWriter, WriteError};
