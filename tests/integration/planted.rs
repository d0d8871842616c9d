//! What stands at the name, or inside the directory, before a login.
