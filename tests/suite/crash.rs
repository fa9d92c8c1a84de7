//! Killed at each point between issue and mark, in a process of its own, and started again on the same data.
