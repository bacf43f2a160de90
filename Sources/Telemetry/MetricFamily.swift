/// The series that share a name, in a snapshot of a registry.
public struct MetricFamily: Sendable {
    public enum Kind: String, Sendable {
        case counter, gauge, histogram
    }

    public let name: String
    public let help: String
    public let kind: Kind
    /// The names of the labels, in the order of the keys of `series`.
    public let labels: [String]
    /// The upper bounds of a histogram's buckets without `+Inf`.
    public let buckets: [Double]
    /// The series by their label values.
    public internal(set) var series: [[String]: MetricSeries] = [:]

    init(name: String, help: String, kind: Kind, labels: [String], buckets: [Double]) {
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = labels
        self.buckets = buckets
    }

    var description: MetricDescription {
        MetricDescription(name, kind, help, labels: labels, buckets: buckets)
    }

    init(_ description: MetricDescription) {
        self.init(
            name: description.name, help: description.help, kind: description.kind, labels: description.labels,
            buckets: description.buckets)
    }

    /// Adds the series of another family with the same name. If both families have a series with the same label values,
    /// the series of this family is kept.
    mutating func merge(_ other: MetricFamily) { series.merge(other.series) { own, _ in own } }
}

/// One time series: a value or, for a histogram, its count (`value`), sum and buckets (not cumulative).
public struct MetricSeries: Sendable {
    public internal(set) var value: Double = 0
    public internal(set) var sum: Double = 0
    public internal(set) var buckets: [Int] = []

    init(value: Double) {
        self.value = value
    }

    init(buckets: Int) {
        self.buckets = Array(repeating: 0, count: buckets)
    }
}
