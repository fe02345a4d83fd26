use super::MAX_TOPIC_BYTES;

/// What is wrong with a topic that messages are published under (MQTT 3.1.1 §4.7), if anything.
pub(super) fn name_fault(topic: &str) -> Option<&'static str> {
    common_fault(topic).or_else(|| {
        if topic.contains(['+', '#']) {
            Some("a message has one topic, so `+` and `#` are not possible where a wire goes")
        } else if topic.starts_with('$') {
            Some("topics that start with `$` are the broker's")
        } else {
            None
        }
    })
}

/// What is wrong with a topic filter that messages are taken from, if anything.
pub(super) fn filter_fault(filter: &str) -> Option<&'static str> {
    common_fault(filter).or_else(|| {
        let levels: Vec<_> = filter.split('/').collect();
        let (last, others) = levels.split_last().expect("split gives one at least");
        if others.iter().any(|level| level.contains('#')) {
            Some("`#` stands for all that follows, so it can only be the last level")
        } else if last.contains('#') && *last != "#" {
            Some("`#` is a level of its own, as in `house/#`")
        } else if levels.iter().any(|level| level.contains('+') && *level != "+") {
            Some("`+` is a level of its own, as in `house/+/temperature`")
        } else {
            None
        }
    })
}

fn common_fault(topic: &str) -> Option<&'static str> {
    if topic.is_empty() {
        Some("it is empty")
    } else if topic.len() > MAX_TOPIC_BYTES {
        Some("it is too long")
    } else if topic.chars().any(char::is_control) {
        Some("it contains control characters")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_filters_are_told_apart() {
        for good in ["a", "greenhouse/temperature", "/a", "a//b", "zu/heiß now"] {
            assert_eq!((name_fault(good), filter_fault(good)), (None, None), "{good}");
        }
        for filter in ["#", "a/#", "+", "+/a/+", "+/#", "$SYS/broker/uptime"] {
            assert!(name_fault(filter).is_some(), "{filter}");
            assert_eq!(filter_fault(filter), None, "{filter}");
        }
        let long = "x".repeat(1025);
        for bad in ["", "a/#/b", "a#", "#/", "a+/b", "a\0b", &long] {
            assert!(filter_fault(bad).is_some(), "{bad}");
        }
    }
}
