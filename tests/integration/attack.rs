//! Ordinary users as attackers, against the logins of a victim.
