/// The name and the meaning of a metric, for the reference and for the head of its family in a scrape.
///
/// Names and units follow Prometheus's conventions (https://prometheus.io/docs/practices/naming/).
public struct MetricDescription: Sendable, Equatable {
    public let name: String
    public let kind: MetricFamily.Kind
    /// The meaning of the metric, in one sentence.
    public let help: String
    public let labels: [String]
    /// The upper bounds of a histogram's buckets, ascending.
    public let buckets: [Double]

    public init(
        _ name: String, _ kind: MetricFamily.Kind, _ help: String, labels: [String] = [], buckets: [Double] = []
    ) {
        self.name = name
        self.kind = kind
        self.help = help
        self.labels = labels
        self.buckets = buckets
    }

    /// The base unit with which the name ends, according to Prometheus's conventions; empty if there is none.
    public var unit: String {
        let bare = name.hasSuffix("_total") ? String(name.dropLast("_total".count)) : name
        return ["seconds", "bytes", "ratio", "info"].first { bare.hasSuffix("_\($0)") } ?? ""
    }
}

/// The values of some metrics that were read together.
public struct MetricSample: Sendable {
    private(set) var families: [String: MetricFamily] = [:]

    public init() {}

    /// Sets the value of one series. The value of a counter must come from a persistent record, because each sample
    /// replaces the previous sample.
    ///
    /// - Parameter labels: the values of the labels, in the order of `metric.labels`. If their number differs, the call
    ///   has no effect.
    public mutating func set(_ metric: MetricDescription, _ value: Double, _ labels: String...) {
        guard labels.count == metric.labels.count else { return }
        var family = families[metric.name] ?? MetricFamily(metric)
        family.series[labels] = MetricSeries(value: value)
        families[metric.name] = family
    }

    /// Limits the number of series in each family, and drops further series.
    ///
    /// - Returns: the number of series that were dropped.
    mutating func limit(to most: Int) -> Int {
        var dropped = 0
        for (name, family) in families where family.series.count > most {
            let kept = family.series.sorted { $0.key.lexicographicallyPrecedes($1.key) }.prefix(most)
            families[name]?.series = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
            dropped += family.series.count - most
        }
        return dropped
    }
}
