import CSystem
import Foundation

/// A program to run, with its arguments; never a shell's line.
public struct Command: Sendable {
    public var program: String
    public var arguments: [String]
    /// The child's whole environment; see `ChildEnvironment` for what it is unless something else is given.
    public var environment: [String: String]
    /// The folder in which the child starts.
    public var directory: String

    /// - Parameter program: a path, or a name that is looked for in the folders of the child's PATH.
    public init(
        _ program: String, _ arguments: [String] = [], environment: [String: String] = ChildEnvironment.fixed(),
        directory: String = "/"
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
    }

    /// Runs the program to its end and collects what it prints.
    ///
    /// A child that outlives the limit, or whose caller is cancelled, is asked to stop (SIGTERM to its process
    /// group), given `grace`, and killed; it never outlives this call.
    ///
    /// - Parameters:
    ///   - limit: how long the child may take.
    ///   - outputLimit: how many bytes of each stream are kept; the rest is read and dropped.
    /// - Throws: `CommandError` when it cannot be started or took too long; `CancellationError`.
    public func run(
        limit: Duration = .seconds(60), grace: Duration = .seconds(5), outputLimit: Int = 1 << 20
    ) async throws -> CommandOutcome {
        let wake = try WakeUp()
        return try await withTaskCancellationHandler {
            try await onOwnThread(named: "child") {
                try ChildRun(self, limit: limit, grace: grace, outputLimit: outputLimit, wake: wake).finish()
            }
        } onCancel: {
            wake.raise()
        }
    }

    func spawn(input: Int32 = -1, output: Int32, error: Int32, newSession: Bool) throws -> pid_t {
        // Not by posix_spawnp, which looks into the parent's PATH, and from there into the current folder.
        guard let path = ChildEnvironment.locate(program, in: ChildEnvironment.folders(of: self.environment["PATH"]))
        else { throw CommandError.notStarted(program: program, reason: String(cString: strerror(ENOENT))) }
        // What lies behind a NUL would be lost without a word.
        guard !(self.arguments + Array(self.environment.values)).contains(where: { $0.utf8.contains(0) }) else {
            throw CommandError.notStarted(program: program, reason: "an argument contains a NUL character")
        }
        var arguments = ([program] + self.arguments).map { strdup($0) } + [nil]
        var environment = self.environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        let directory = strdup(self.directory)
        defer {
            for pointer in arguments { free(pointer) }
            for pointer in environment { free(pointer) }
            free(directory)
        }
        var options = csystem_spawn_options(
            stdin_fd: input, stdout_fd: output, stderr_fd: error, new_session: newSession ? 1 : 0,
            directory: UnsafePointer(directory))
        return try LiveChildren.shared.adding(outlivesParent: newSession) {
            var pid: pid_t = 0
            let code = csystem_spawn(&pid, path, &arguments, &environment, &options)
            guard code == 0 else {
                throw CommandError.notStarted(program: program, reason: String(cString: strerror(code)))
            }
            return pid
        }
    }
}

/// How a program ended and what it printed, as `programText` makes it.
public struct CommandOutcome: Sendable {
    public enum Ending: Sendable, Equatable {
        case exited(Int32)
        case killed(signal: Int32)
    }

    public let ending: Ending
    public let output: String
    public let errorOutput: String

    public var succeeded: Bool { ending == .exited(0) }
}

/// Why a program could not be run to its end.
public enum CommandError: Error, CustomStringConvertible {
    case notStarted(program: String, reason: String)
    case tookTooLong(program: String, limit: Duration, errorOutput: String)

    public var description: String {
        switch self {
        case .notStarted(let program, let reason): "cannot start \(program): \(reason)"
        case .tookTooLong(let program, let limit, let output):
            "\(program) did not end within \(limit.components.seconds) s"
                + (output.isEmpty ? "" : ": \(output.trimmingCharacters(in: .whitespacesAndNewlines))")
        }
    }
}
