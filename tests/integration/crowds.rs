//! Many first logins at once.
