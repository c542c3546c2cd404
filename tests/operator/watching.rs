//! What a log tells `tracing` and `metrics`.

use indelible::Log;

use super::{entry, options};

#[cfg(feature = "metrics")]
#[test]
fn every_counter_is_published_with_the_name_of_the_log() {
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    #[derive(Default)]
    struct Names(Mutex<Vec<String>>);

    struct Value(Arc<Mutex<Vec<u64>>>);

    impl metrics::CounterFn for Value {
        fn increment(&self, _: u64) {}
        fn absolute(&self, value: u64) {
            self.0.lock().unwrap().push(value);
        }
    }

    struct Kept {
        names: Names,
        values: Arc<Mutex<Vec<u64>>>,
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.names.0.lock().unwrap().push(key.to_string());
            Counter::from_arc(Arc::new(Value(Arc::clone(&self.values))))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.names.0.lock().unwrap().push(key.to_string());
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    let log = Log::in_memory(&options()).unwrap();
    log.append(&entry(0)).unwrap();
    log.append(&entry(1)).unwrap();
    let kept = Kept { names: Names::default(), values: Arc::default() };
    metrics::with_local_recorder(&kept, || indelible::Publisher::new("node-1").publish(&log));
    let names = kept.names.0.lock().unwrap().join("\n");
    for name in ["appends_total", "syncs_total", "poisoned", "holes", "node-1"] {
        assert!(names.contains(name), "{name} is not among\n{names}");
    }
    assert_eq!(kept.values.lock().unwrap().first(), Some(&2), "appends");
}

#[cfg(feature = "tracing")]
#[test]
fn opening_rolling_and_trimming_are_events() {
    use std::fmt::Write;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    struct Text<'a>(&'a mut String);

    impl Visit for Text<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let _infallible = write!(self.0, "{field}={value:?} ");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut lines = self.0.lock().unwrap();
            let _infallible = write!(lines, "span={} ", span.metadata().name());
            assert_eq!(span.metadata().target(), "indelible");
            span.record(&mut Text(&mut lines));
            lines.push('\n');
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            assert_eq!(event.metadata().target(), "indelible");
            let mut lines = self.0.lock().unwrap();
            event.record(&mut Text(&mut lines));
            lines.push('\n');
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let log = Log::in_memory(&options()).unwrap();
        for index in 0..60 {
            log.append(&entry(index)).unwrap();
        }
        let mut batch = indelible::Batch::new();
        batch.trim(50);
        log.commit(&batch).unwrap();
        log.close().unwrap();
    });
    let lines = lines.0.lock().unwrap();
    for said in [
        "opened",
        "rolled",
        "trimmed",
        "verdict=Created",
        "first=50",
        "span=open path=",
        "span=commit",
        "span=roll",
        "span=checkpoint",
    ] {
        assert!(lines.contains(said), "{said} is not among\n{lines}");
    }
}
