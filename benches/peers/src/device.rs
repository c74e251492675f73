//! The raw device among the stores: each put of one caller is a block.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::peer::Result;
use crate::raw_device::{RawDevice, Way};
use crate::workload::{Contender, Measured, Workload, nanos};

pub(crate) struct Device(RefCell<RawDevice>);

impl Device {
    pub(crate) fn open(path: &Path, way: Way) -> Result<Self> {
        Ok(Self(RefCell::new(RawDevice::open(path, way)?)))
    }
}

impl Contender for Device {
    fn fill(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn run(&self, workload: Workload, _: u64, time: Duration) -> Result<Option<Measured>> {
        if workload != Workload::Put {
            return Ok(None);
        }
        let (mut latencies, started) = (Histogram::new(3)?, Instant::now());
        while started.elapsed() < time {
            let begun = Instant::now();
            self.0.borrow_mut().write()?;
            latencies.record(nanos(begun.elapsed()))?;
        }
        Measured::of(vec![latencies], started.elapsed()).map(Some)
    }
}
