import CSystem
import Foundation

/// A program to run, with its arguments. No shell interprets the arguments.
public struct Command: Sendable {
    public var program: String
    public var arguments: [String]
    /// The whole environment of the child. See `ChildEnvironment` for the default.
    public var environment: [String: String]
    /// The folder in which the child starts.
    public var directory: String
    public var priority: ChildPriority

    /// - Parameter program: a path, or a name that is searched in the folders of the child's PATH.
    public init(
        _ program: String, _ arguments: [String] = [], environment: [String: String] = ChildEnvironment.fixed(),
        directory: String = "/", priority: ChildPriority = .current
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.priority = priority
    }

    /// Runs the program to its end and collects its output.
    ///
    /// If the child exceeds the limit, or the caller is cancelled, the child's process group receives SIGTERM. When the
    /// child has ended, or after `grace`, the group is killed. The child does not outlive this call, unless it is stuck
    /// in the kernel.
    ///
    /// - Parameters:
    ///   - limit: how long the child may take.
    ///   - outputLimit: the number of bytes of each stream that are kept. Further output is read and discarded.
    /// - Throws: `CommandError` if the program cannot be started or takes too long; `CancellationError`.
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
        // posix_spawnp is not used, because it searches the parent's PATH, which may include the current folder.
        guard let path = ChildEnvironment.locate(program, in: ChildEnvironment.folders(of: self.environment["PATH"]))
        else { throw CommandError.notStarted(program: program, reason: String(cString: strerror(ENOENT))) }
        // The text after a NUL would be lost without an error.
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
            if case .background(let nice) = priority { csystem_lower_priority(pid, Int32(nice)) }
            return pid
        }
    }
}

/// How a program ended, and its output as converted by `programText`.
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

/// The reason why a program could not be run to its end.
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
