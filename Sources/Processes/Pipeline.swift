import Foundation
import Reporting

/// Programs that are connected by pipes. This process reads the output of the last one.
///
///     let dump = Pipeline([pgDump, zstd, age])
///     try await dump.run { bytes in try file.write(bytes) }
///
/// The pipeline succeeds only if every program succeeds. Checking only the last program would not be enough, because
/// its input ends normally even if a program before it fails. Bytes are passed on as they arrive, with the
/// back-pressure of the pipes, and are not collected in memory.
public struct Pipeline: Sendable {
    public let commands: [Command]
    let lastMayStopEarly: Bool

    /// - Parameters:
    ///   - commands: at least one.
    ///   - lastMayStopEarly: whether the pipeline succeeds if the last program exits with 0 before it has read all of
    ///     its input. The other programs may then be killed by the broken pipe.
    public init(_ commands: [Command], lastMayStopEarly: Bool = false) {
        self.commands = commands
        self.lastMayStopEarly = lastMayStopEarly
    }

    /// Runs the programs until all have ended.
    ///
    /// - Parameters:
    ///   - source: returns the first program's input, one piece at a time, and nil at the end. It is called on a
    ///     separate thread, and is not called after this method has returned. Without a source, the input is empty.
    ///   - letGo: called when no more input is needed. If `source` is waiting, it must then return.
    ///   - take: receives the last program's output, on another thread.
    /// - Throws: `PipelineError` if a program cannot be started or does not exit with 0; the errors of `source` and
    ///   `take`; `CancellationError`. No program outlives the call, unless it is stuck in the kernel.
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
    /// Runs the programs until all have ended, and returns the output of the last one.
    ///
    /// - Throws: as `run`.
    public func output() async throws -> [UInt8] {
        let gathered = Gathered<UInt8>()
        try await run { gathered.add($0) }
        return gathered.all
    }
}

/// The program of a pipeline that failed, and its error output.
public struct PipelineError: Error, CustomStringConvertible {
    public let program: String
    public let ending: CommandOutcome.Ending?
    /// The standard error of the program, as converted by `programMessage`; if the program cannot be started, the
    /// reason.
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
