//! A description of the machine on which the benchmarks ran.

use std::{fs, thread};

use crate::Trouble;

/// The description, line by line.
pub(crate) fn describe() -> Result<Vec<String>, Trouble> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&cpus, "model name").unwrap_or("unknown processor");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kilobytes: u64 =
        field(&memory, "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    let cores = thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(vec![
        format!("{model}, {cores} cores, {} GB of memory", kilobytes.div_ceil(1024 * 1024)),
        format!("Linux {}", kernel.trim()),
    ])
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}
