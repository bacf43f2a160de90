import Foundation
import Reporting

/// Programs whose output flows into each other, the last one's into this process.
///
///     let dump = Pipeline([pgDump, zstd, age])
///     try await dump.run { bytes in try file.write(bytes) }
///
/// The whole has succeeded only when every program has: a pipe hides how the first ones ended. Bytes flow as they come,
/// with the pipes' own back-pressure; nothing is gathered.
public struct Pipeline: Sendable {
    public let commands: [Command]
    let lastMayStopEarly: Bool

    /// - Parameters:
    ///   - commands: at least one.
    ///   - lastMayStopEarly: whether it is a success when the last program ends well without having read all that the
    ///     others write: these may die of the broken pipe then.
    public init(_ commands: [Command], lastMayStopEarly: Bool = false) {
        self.commands = commands
        self.lastMayStopEarly = lastMayStopEarly
    }

    /// Runs the programs to their ends.
    ///
    /// - Parameters:
    ///   - source: gives the first program's input, a piece at a time, nil at the end; it is called on a thread of its
    ///     own, and not any more when this returns. Without one the input is empty.
    ///   - letGo: called when nothing more is wanted of `source`: one that waits is to return.
    ///   - take: gets the last program's output, on another thread.
    /// - Throws: `PipelineError` when a program cannot be started or does not end with 0; what `source` or `take` throw;
    ///   `CancellationError`. No program outlives the call.
    public func run(
        source: (@Sendable () throws -> [UInt8]?)? = nil, letGo: @escaping @Sendable () -> Void = {},
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let wake = try WakeUp()
        try await withTaskCancellationHandler {
            try await onOwnThread(named: "pipeline") {
                try PipelineRun(self, source: source, letGo: letGo, wake: wake).finish(take)
            }
        } onCancel: {
            wake.raise()
        }
    }
}

extension Pipeline {
    /// Runs the programs to their ends and gathers what the last one writes.
    ///
    /// - Throws: as `run`.
    public func output() async throws -> [UInt8] {
        let gathered = Gathered<UInt8>()
        try await run { gathered.add($0) }
        return gathered.all
    }
}

/// Which program of a pipeline failed, and what it said.
public struct PipelineError: Error, CustomStringConvertible {
    public let program: String
    public let ending: CommandOutcome.Ending?
    /// As `programMessage` makes it.
    public let errorOutput: String

    public var description: String {
        let name = (program as NSString).lastPathComponent
        let said = errorOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        switch ending {
        case .exited(let status): return "\(name) ended with status \(status)" + (said.isEmpty ? "" : ": \(said)")
        case .killed(let signal): return "\(name) was killed by signal \(signal)" + (said.isEmpty ? "" : ": \(said)")
        case nil: return "\(name) cannot be started: \(said)"
        }
    }
}

extension PipelineError: ReportedError {
    public static let codes = [
        ErrorCode("program", [.failed], "A program that Reeve runs, such as `pg_dump` or `age`, failed.")
    ]

    public var report: ErrorReport { ErrorReport(description, code: "program") }
}
