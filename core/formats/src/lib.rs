//! Data sets as other tools write them.
