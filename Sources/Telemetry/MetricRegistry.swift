import Synchronization

/// The metrics of one process: families of time series that any thread may write. They are read as a snapshot.
///
/// Names and units follow Prometheus's conventions (https://prometheus.io/docs/practices/naming/): base units, and
/// `_total` for counters. Registering the same name twice returns the same family.
public final class MetricRegistry: Sendable {
    /// The maximum number of series in one family. Further series are dropped and counted in
    /// `reeve_metric_series_dropped_total`.
    public let seriesLimit: Int
    private let families = Mutex<[String: MetricFamily]>([:])
    private let samples = Mutex<[String: MetricSample]>([:])
    private let dropped = Mutex(0)

    public init(seriesLimit: Int = 10_000) {
        self.seriesLimit = seriesLimit
    }

    /// Returns a counter, a value that only grows. The metric's name ends in `_total`.
    public func counter(_ description: MetricDescription) -> Counter {
        Counter(registry: self, name: register(description))
    }

    /// Returns a gauge, a value that goes up and down.
    public func gauge(_ description: MetricDescription) -> Gauge {
        Gauge(registry: self, name: register(description))
    }

    /// Returns a histogram, which counts the observed values in fixed buckets.
    public func histogram(_ description: MetricDescription) -> Histogram {
        Histogram(registry: self, name: register(description))
    }

    /// Replaces the previous sample of a source. Series that the new sample does not contain disappear.
    ///
    /// - Parameter source: the name of the source, such as a collector and its database.
    public func replace(_ source: String, with sample: MetricSample) {
        var sample = sample
        let refused = sample.limit(to: seriesLimit)
        dropped.withLock { $0 += refused }
        samples.withLock { $0[source] = sample }
    }

    /// Returns all families with their series, sorted by name.
    public func snapshot() -> [MetricFamily] {
        var all = families.withLock { $0 }
        let count = dropped.withLock { $0 }
        for (_, sample) in samples.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
            for (name, family) in sample.families {
                var merged = all[name] ?? MetricFamily(family.description)
                merged.merge(family)
                all[name] = merged
            }
        }
        if count > 0 {
            var family = MetricFamily(Self.droppedSeries)
            family.series[[]] = MetricSeries(value: Double(count))
            all[family.name] = family
        }
        return all.values.sorted { $0.name < $1.name }
    }

    /// The metric that counts the series that the registry has dropped.
    public static let droppedSeries = MetricDescription(
        "reeve_metric_series_dropped_total", .counter,
        "Series that were dropped because their metric had reached its limit of series.")

    private func register(_ description: MetricDescription) -> String {
        families.withLock {
            if $0[description.name] == nil { $0[description.name] = MetricFamily(description) }
        }
        return description.name
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

/// A counter of a registry. Label values are passed in the order in which the labels were declared.
public struct Counter: Sendable {
    fileprivate let registry: MetricRegistry
    fileprivate let name: String

    /// Adds `amount`. A negative amount is ignored, because a counter never falls.
    public func increment(by amount: Double = 1, _ labels: String...) {
        guard amount >= 0 else { return }
        registry.update(name, labels) { $0.value += amount }
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
