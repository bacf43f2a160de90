import Telemetry

/// A maintenance task that runs on a schedule or by hand.
public struct TaskDefinition: Sendable {
    public let name: String
    /// A description in one line.
    public let summary: String
    public var schedule: Schedule
    public var isEnabled: Bool
    /// The maximum random delay of each run after its due time.
    public var jitter: Duration
    /// The time limit of one attempt.
    public var timeout: Duration
    /// How many times a failed run is retried.
    public var retries: Int
    /// The pause before the first retry. It doubles with each retry, and has a random part.
    public var backoff: Duration
    /// Does the work, and returns a one-line description of what it did. It must be safe to run again after an
    /// interruption.
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

    /// Returns the pause after a failed attempt: at most a day, changed randomly by up to 25 %.
    func pause(after attempt: Int) -> Duration {
        let longest = Duration.seconds(86400)
        return min(min(backoff, longest) * (1 << (max(1, min(attempt, 11)) - 1)), longest)
            * Double.random(in: 0.75...1.25)
    }
}

/// The input of a task's work.
public struct TaskContext: Sendable {
    public let logger: Logger
}
