//! Random histories with faults over the real handlers, each reproducible from its seed.

fn main() {}
