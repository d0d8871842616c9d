//! Real file systems that are full, read-only, failing, or squash owners.
