use super::settings::Settings;
use super::{Builtin, BuiltinError};
use crate::component::{Component, ComponentContext, ComponentError, OutputEvent};
use serde_json::{Map, Number, Value};
use std::collections::VecDeque;

/// [`Builtin::Average`].
pub(super) struct Average {
    window: usize,
    statistic: Statistic,
    readings: VecDeque<f64>,
}

#[derive(Clone, Copy)]
enum Statistic {
    Mean,
    Median,
}

impl Average {
    pub(super) fn new(config: &Map<String, Value>) -> Result<Self, BuiltinError> {
        let settings = Settings::new(Builtin::Average, config, &["window", "statistic"])?;
        let window = settings.integer("window", Some(5), (1, 1000))?;
        let statistic = settings.choice("statistic", &["mean", "median"])?;
        Ok(Self {
            window: usize::try_from(window).expect("at most 1000"),
            statistic: [Statistic::Mean, Statistic::Median][statistic],
            readings: VecDeque::new(),
        })
    }

    fn average(&self) -> f64 {
        let count = self.readings.len();
        match self.statistic {
            // Divided before adding up, so that no sum of finite readings is infinite.
            Statistic::Mean => self.readings.iter().map(|r| r / count as f64).sum(),
            Statistic::Median => {
                let mut sorted: Vec<_> = self.readings.iter().copied().collect();
                sorted.sort_by(f64::total_cmp);
                let (low, high) = (sorted[(count - 1) / 2], sorted[count / 2]);
                low / 2.0 + high / 2.0
            }
        }
    }
}

impl Component for Average {
    fn on_event(
        &mut self,
        _port: &str,
        value: &Value,
        _context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        let Some(reading) = value.as_f64().filter(|r| r.is_finite()) else {
            return Err(ComponentError::Refused(format!("{value} is no number")));
        };
        if self.readings.len() == self.window {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        match Number::from_f64(self.average()) {
            Some(average) => Ok(vec![OutputEvent::new("average", average)]),
            None => Err(ComponentError::Refused("the average is not finite".into())),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        let bytes = self.readings.iter().flat_map(|r| r.to_bits().to_le_bytes());
        Ok(bytes.collect())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        let (readings, rest) = state.as_chunks::<8>();
        let readings: VecDeque<_> =
            readings.iter().map(|bits| f64::from_bits(u64::from_le_bytes(*bits))).collect();
        if !rest.is_empty() || readings.len() > self.window || readings.iter().any(|r| !r.is_finite()) {
            return Err(ComponentError::Refused("no state of this average".into()));
        }
        self.readings = readings;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CONTEXT: ComponentContext = ComponentContext { time_ns: 0, seed: [0; 32] };

    fn average(config: Value) -> Average {
        Average::new(config.as_object().unwrap()).unwrap()
    }

    fn feed(average: &mut Average, readings: &[f64]) -> Vec<f64> {
        let mut one = |reading: &f64| {
            let outputs = average.on_event("value", &json!(reading), &CONTEXT).unwrap();
            outputs[0].value.as_f64().unwrap()
        };
        readings.iter().map(&mut one).collect()
    }

    #[test]
    fn the_mean_is_that_of_the_window() {
        let mut a = average(json!({ "window": 2 }));
        assert_eq!(feed(&mut a, &[1.0, 3.0, 5.0]), [1.0, 2.0, 4.0]);
        assert_eq!(feed(&mut a, &[f64::MAX, f64::MAX])[1], f64::MAX);
    }

    #[test]
    fn a_wild_reading_does_not_move_the_median() {
        let mut a = average(json!({ "window": 3, "statistic": "median" }));
        assert_eq!(feed(&mut a, &[20.0, 22.0, 9000.0, 21.0]), [20.0, 21.0, 22.0, 22.0]);
    }

    #[test]
    fn a_restored_average_goes_on_alike() {
        let mut old = average(json!({}));
        feed(&mut old, &[1.0, 2.0, 0.1]);
        let snapshot = old.snapshot().unwrap();
        let mut new = average(json!({}));
        new.restore(&snapshot).unwrap();
        assert_eq!(feed(&mut new, &[7.0]), feed(&mut old, &[7.0]));
        assert!(new.restore(&snapshot[1..]).is_err());
        assert!(average(json!({ "window": 2 })).restore(&snapshot).is_err());
    }

    #[test]
    fn no_number_is_refused() {
        let refused = average(json!({})).on_event("value", &json!(null), &CONTEXT);
        assert_eq!(refused, Err(ComponentError::Refused("null is no number".into())));
    }
}
