import Synchronization

/// The metrics of one process: families of time series, written by any thread and read as a snapshot.
///
/// Names and units follow Prometheus's conventions (https://prometheus.io/docs/practices/naming/): base units,
/// `_total` on counters. A family that is asked for twice is the same one.
public final class MetricRegistry: Sendable {
    /// Series of one family beyond this many are dropped and counted in `reeve_metric_series_dropped_total`.
    public let seriesLimit: Int
    private let families = Mutex<[String: MetricFamily]>([:])
    private let dropped = Mutex(0)

    public init(seriesLimit: Int = 10_000) {
        self.seriesLimit = seriesLimit
    }

    /// A value that only grows; its name ends in `_total`.
    public func counter(_ name: String, _ help: String, labels: [String] = []) -> Counter {
        Counter(registry: self, name: register(name, help, .counter, labels, []))
    }

    /// A value that goes up and down.
    public func gauge(_ name: String, _ help: String, labels: [String] = []) -> Gauge {
        Gauge(registry: self, name: register(name, help, .gauge, labels, []))
    }

    /// A distribution over fixed buckets, whose upper bounds ascend.
    public func histogram(_ name: String, _ help: String, labels: [String] = [], buckets: [Double]) -> Histogram {
        Histogram(registry: self, name: register(name, help, .histogram, labels, buckets))
    }

    /// All families with their series, sorted by name and labels.
    public func snapshot() -> [MetricFamily] {
        var all = families.withLock { Array($0.values) }
        let count = dropped.withLock { $0 }
        if count > 0 {
            var family = MetricFamily(
                name: "reeve_metric_series_dropped_total", help: "Series refused by the limit of their family.",
                kind: .counter, labels: [], buckets: [])
            family.series[[]] = MetricSeries(value: Double(count))
            all.append(family)
        }
        return all.sorted { $0.name < $1.name }
    }

    private func register(
        _ name: String, _ help: String, _ kind: MetricFamily.Kind, _ labels: [String], _ buckets: [Double]
    ) -> String {
        families.withLock {
            if $0[name] == nil {
                $0[name] = MetricFamily(name: name, help: help, kind: kind, labels: labels, buckets: buckets)
            }
        }
        return name
    }

    fileprivate func update(_ name: String, _ labels: [String], _ change: (inout MetricSeries) -> Void) {
        families.withLock { families in
            guard families[name]?.labels.count == labels.count else { return }
            if families[name]?.series[labels] == nil, families[name]?.series.count ?? 0 >= seriesLimit {
                dropped.withLock { $0 += 1 }
                return
            }
            let buckets = families[name]?.buckets.count ?? 0
            var series = families[name]?.series[labels] ?? MetricSeries(buckets: buckets)
            change(&series)
            families[name]?.series[labels] = series
        }
    }

    fileprivate func bounds(_ name: String) -> [Double] {
        families.withLock { $0[name]?.buckets ?? [] }
    }
}

/// A counter of a registry. Label values stand in the order in which the labels were declared.
public struct Counter: Sendable {
    fileprivate let registry: MetricRegistry
    fileprivate let name: String

    /// Adds `amount`; a negative one is ignored, for a counter never falls.
    public func increment(by amount: Double = 1, _ labels: String...) {
        guard amount >= 0 else { return }
        registry.update(name, labels) { $0.value += amount }
    }

    /// Sets the counter to what a lasting record counts, unless it is beyond that already: it never falls.
    public func setAtLeast(_ value: Double, _ labels: String...) {
        registry.update(name, labels) { $0.value = max($0.value, value) }
    }
}

/// A gauge of a registry.
public struct Gauge: Sendable {
    fileprivate let registry: MetricRegistry
    fileprivate let name: String

    public func set(_ value: Double, _ labels: String...) {
        registry.update(name, labels) { $0.value = value }
    }
}

/// A histogram of a registry.
public struct Histogram: Sendable {
    fileprivate let registry: MetricRegistry
    fileprivate let name: String

    public func observe(_ value: Double, _ labels: String...) {
        let bucket = registry.bounds(name).firstIndex { value <= $0 }
        registry.update(name, labels) {
            $0.sum += value
            $0.value += 1
            if let bucket { $0.buckets[bucket] += 1 }
        }
    }
}
