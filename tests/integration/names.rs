//! Names that a real NSS source can hand out.
