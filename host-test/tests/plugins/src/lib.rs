//! Empty: the plugins are the examples of this package, each a cdylib.
