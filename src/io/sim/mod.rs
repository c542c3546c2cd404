//! The simulated disk: the door to a directory that can be crashed and that fails on demand.
