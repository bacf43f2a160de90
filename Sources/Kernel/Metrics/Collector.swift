import Telemetry

/// Reads metrics of one database, on a clock of its own. A scrape only sees what was read last.
public struct Collector: Sendable {
    public let name: String
    /// The families that it may give, for the reference and for scrapes before the first reading.
    public let families: [MetricDescription]
    /// How long after the end of one reading the next begins.
    public let interval: Duration
    /// How long one reading may take.
    public let limit: Duration
    /// Reads; what it gives takes the place of what it gave for this database before.
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
