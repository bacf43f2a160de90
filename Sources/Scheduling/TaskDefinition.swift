import Telemetry

/// A piece of maintenance that is run on a schedule or by hand.
public struct TaskDefinition: Sendable {
    public let name: String
    /// One line that says what it does.
    public let summary: String
    public var schedule: Schedule
    public var isEnabled: Bool
    /// Each run begins up to this much after it is due.
    public var jitter: Duration
    /// How long one attempt may take.
    public var timeout: Duration
    /// How often a failed run is tried again.
    public var retries: Int
    /// The pause before the first retry; it doubles each time, with jitter.
    public var backoff: Duration
    /// Does the work, and says in one line what it did. It must be safe to run again after it was cut short.
    public let work: @Sendable (TaskContext) async throws -> String

    public init(
        name: String, summary: String, schedule: Schedule, isEnabled: Bool = true, jitter: Duration = .zero,
        timeout: Duration = .seconds(3600), retries: Int = 3, backoff: Duration = .seconds(30),
        work: @escaping @Sendable (TaskContext) async throws -> String
    ) {
        self.name = name
        self.summary = summary
        self.schedule = schedule
        self.isEnabled = isEnabled
        self.jitter = jitter
        self.timeout = timeout
        self.retries = retries
        self.backoff = backoff
        self.work = work
    }

    /// The pause after an attempt that failed; a day at the most.
    func pause(after attempt: Int) -> Duration {
        let longest = Duration.seconds(86400)
        return min(min(backoff, longest) * (1 << (max(1, min(attempt, 11)) - 1)), longest)
            * Double.random(in: 0.75...1.25)
    }
}

/// What the work of a task is given.
public struct TaskContext: Sendable {
    public let logger: Logger
}
