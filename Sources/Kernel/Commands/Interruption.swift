import Foundation
import Processes
import Reporting
import Synchronization

/// The effect of signals on a command, and the report of what an interrupted command did.
///
/// The first signal cancels the command's task. The cancellation stops statements on the server, ends child processes
/// and cleans up. If this takes longer than `limit`, or if a second signal arrives, the process ends immediately. A
/// command records its completed steps here, so that the report lists them.
public final class Interruption: Sendable {
    /// How long a command may take to end after the first signal.
    public static let limit: Duration = .seconds(15)

    private struct State {
        var signal: Int32?
        var isAsking = false
        var done: [String] = []
        var standing: String
    }

    private let state: Mutex<State>
    private let console: Console
    /// Whether the command is a service: on a signal it ends in order, without a time limit, and with success.
    private let isService: Bool

    /// - Parameter standing: the state to report until `stands` is called.
    public init(console: Console, standing: String, isService: Bool = false) {
        self.console = console
        self.isService = isService
        state = Mutex(State(standing: standing))
    }

    /// The first signal that was received.
    public var signal: Int32? { state.withLock { $0.signal } }

    /// Records a completed step, for the report.
    public func did(_ what: String) { state.withLock { $0.done.append(what) } }

    /// Sets the state that is reported if a signal stops the command from now on. Replaces the previous state.
    public func stands(_ what: String) { state.withLock { $0.standing = what } }

    /// Runs a function that waits for a person's answer. During that wait, a signal ends the process immediately,
    /// because there is nothing to cancel. The function should print the question, too.
    ///
    /// - Throws: `CancellationError` if a signal was received before; the errors of `body`.
    public func asking<T>(_ body: () throws -> T) throws -> T {
        let isStopped = state.withLock { state in
            state.isAsking = true
            return state.signal != nil
        }
        defer { state.withLock { $0.isAsking = false } }
        if isStopped { throw CancellationError() }
        return try body()
    }

    /// Handles the signals from now on, on a separate thread.
    public func watch(_ cancel: @escaping @Sendable () -> Void) throws {
        try Signals.listen([SIGINT, SIGTERM, SIGHUP]) { [self] event in take(event, cancel) }
    }

    /// Returns the report: `interrupted: `, the completed steps, and the state that `stands` has set.
    ///
    /// - Parameter failure: the error that the command ended with, if it was not the cancellation.
    public func message(_ failure: String? = nil) -> String {
        let (done, standing) = state.withLock { ($0.done, $0.standing) }
        var text = "interrupted: " + (done + [standing]).filter { !$0.isEmpty }.joined(separator: "; ")
        if let failure { text += "\nthe command then failed: \(failure)" }
        return text
    }

    private func take(_ event: Signals.Event, _ cancel: () -> Void) -> Duration? {
        guard case .came(let number) = event else {
            end(
                because:
                    "the command did not end within \(Self.limit.components.seconds) s; it is not known what its last "
                    + "step did"
            )
        }
        let (isFirst, isAsking) = state.withLock { state in
            defer { state.signal = state.signal ?? number }
            return (state.signal == nil, state.isAsking)
        }
        guard isFirst else {
            end(because: "a second signal ended the command immediately; it is not known what its last step did")
        }
        if isAsking { end(because: nil) }
        cancel()
        return isService ? nil : Self.limit
    }

    /// Ends the process immediately. Does not wait for the reader of the output.
    private func end(because reason: String?) -> Never {
        let (number, done) = state.withLock { ($0.signal ?? SIGTERM, $0.done) }
        let told = done + [reason ?? (done.isEmpty ? "nothing was done" : "nothing else was done")]
        if !isService { console.interrupted("interrupted: " + told.joined(separator: "; "), mayWait: false) }
        Command.killAll()
        _exit(128 + number)
    }
}
