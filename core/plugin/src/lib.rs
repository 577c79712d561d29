//! The plugin host.
