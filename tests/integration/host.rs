//! The host process before and after.
