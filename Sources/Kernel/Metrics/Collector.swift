import Telemetry

/// Reads metrics of one database at regular intervals. A scrape returns the result of the last reading.
public struct Collector: Sendable {
    public let name: String
    /// The metric families that the collector may return, for the reference and for scrapes before the first reading.
    public let families: [MetricDescription]
    /// The pause between the end of one reading and the start of the next.
    public let interval: Duration
    /// The time limit of one reading.
    public let limit: Duration
    /// Reads the metrics. The result replaces the result of the previous reading of this database.
    public let collect: @Sendable (OpenDatabase, inout MetricSample) async throws -> Void

    public init(
        _ name: String, families: [MetricDescription], interval: Duration = .seconds(15),
        limit: Duration = .seconds(10),
        collect: @escaping @Sendable (OpenDatabase, inout MetricSample) async throws -> Void
    ) {
        self.name = name
        self.families = families
        self.interval = interval
        self.limit = limit
        self.collect = collect
    }
}
