//! Every system call of the module failing, and every one its last.
