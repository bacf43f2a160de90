import Foundation
import Processes
import Reporting
import Synchronization

/// What a signal does to a command, and what is said of it.
///
/// The first one cancels the command's task, which cancels what runs on the server, ends children and cleans up. If that
/// takes too long, or with a second signal, the process ends at once. Commands write down here what they have done, so
/// that whoever stopped them is told.
public final class Interruption: Sendable {
    /// How long a command may take to end.
    public static let limit: Duration = .seconds(15)

    private struct State {
        var signal: Int32?
        var isAsking = false
        var done: [String] = []
        var standing: String
    }

    private let state: Mutex<State>
    private let console: Console
    /// Whether it is to end in order on a signal, in its own time, and with success.
    private let isService: Bool

    /// - Parameter standing: what is true whenever the command is stopped.
    public init(console: Console, standing: String, isService: Bool = false) {
        self.console = console
        self.isService = isService
        state = Mutex(State(standing: standing))
    }

    /// The first signal that came.
    public var signal: Int32? { state.withLock { $0.signal } }

    /// Writes down what has been done and stays.
    public func did(_ what: String) { state.withLock { $0.done.append(what) } }

    /// Says what stands from now on if the command is stopped, in place of what was said before.
    public func stands(_ what: String) { state.withLock { $0.standing = what } }

    /// Runs what waits for a person, where there is nothing to cancel.
    public func asking<T>(_ body: () throws -> T) rethrows -> T {
        state.withLock { $0.isAsking = true }
        defer { state.withLock { $0.isAsking = false } }
        return try body()
    }

    /// Takes the signals from now on, on a thread of their own.
    public func watch(_ cancel: @escaping @Sendable () -> Void) throws {
        try Signals.listen([SIGINT, SIGTERM, SIGHUP]) { [self] event in take(event, cancel) }
    }

    /// `interrupted: ` and what was and was not done.
    ///
    /// - Parameter failure: what the command ended with, where that was something else.
    public func message(_ failure: String? = nil) -> String {
        let (done, standing) = state.withLock { ($0.done, $0.standing) }
        var text = "interrupted: " + (done + [standing]).filter { !$0.isEmpty }.joined(separator: "; ")
        if let failure { text += "\nit ended with: \(failure)" }
        return text
    }

    private func take(_ event: Signals.Event, _ cancel: () -> Void) -> Duration? {
        guard case .came(let number) = event else {
            end(because: "it did not end within \(Self.limit.components.seconds) s, and what it was at is not known")
        }
        let (isFirst, isAsking) = state.withLock { state in
            defer { state.signal = state.signal ?? number }
            return (state.signal == nil, state.isAsking)
        }
        guard isFirst else { end(because: "a second signal ended it at once, and what it was at is not known") }
        if isAsking { end(because: nil) }
        cancel()
        return isService ? nil : Self.limit
    }

    /// Ends the process without asking anybody, and without waiting for a reader who does not read.
    private func end(because reason: String?) -> Never {
        let (number, done) = state.withLock { ($0.signal ?? SIGTERM, $0.done) }
        let told = done + [reason ?? (done.isEmpty ? "nothing was done" : "nothing else was done")]
        if !isService { console.interrupted("interrupted: " + told.joined(separator: "; "), mayWait: false) }
        Command.killAll()
        _exit(128 + number)
    }
}
