//! Resource limits that a stack may have set before the module.
