//! What upstream systems use: upload notices, folder and bucket listing, corpora.
