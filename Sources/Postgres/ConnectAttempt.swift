import CLibpq
import Foundation
import Processes
import Synchronization
import Telemetry

/// One connection being made, on the thread of its `Connection`.
///
/// libpq is polled, so that a cancelled task and a limit end the attempt at once. Two of its calls block and so run on a
/// thread of their own, which is left behind when they take too long: the first one where a host is a name (it asks the
/// resolver), and `PQreset` where one of several hosts or addresses does not answer. Only the blocking call goes on to
/// the next address by itself then; `connect_timeout`, the order of hosts and `target_session_attrs` are as in libpq.
struct ConnectAttempt {
    let settings: ConnectionSettings
    let logger: Logger
    let wake: WakeUp

    /// - Throws: `PostgresError` of kind `cannotConnect` with libpq's own reasons; `CancellationError`.
    func connect() throws -> LibpqHandle {
        let (parameters, logger) = (settings.libpqParameters, logger)
        let limit = settings.hasNamedHosts ? settings.addressTimeout.map { $0 + Self.resolverPatience } : nil
        let start = { @Sendable in try LibpqHandle(parameters: parameters, logger: logger) }
        let handle = settings.hasNamedHosts ? try apart(limit, start) : try start()
        guard PQstatus(handle.raw) != CONNECTION_BAD else { throw refusal(handle) }
        guard try poll(handle) else {
            guard settings.mayHaveSeveralAddresses else { throw silence }
            try apart(settings.overallTimeout) { PQreset(handle.raw) }
            guard PQstatus(handle.raw) == CONNECTION_OK else { throw refusal(handle) }
            return handle
        }
        return handle
    }

    /// What a resolver may take before it counts as hung: two tries at three name servers (resolv.conf(5)).
    private static let resolverPatience: Duration = .seconds(30)

    /// - Returns: false when an address did not answer in its time.
    private func poll(_ handle: LibpqHandle) throws -> Bool {
        var state = PGRES_POLLING_WRITING
        var address = ""
        var end: ContinuousClock.Instant?
        while state != PGRES_POLLING_OK {
            // Each address has its time; libpq goes on by itself when one refuses.
            let current = handle.address
            if current != address {
                address = current
                end = settings.addressTimeout.map { .now + $0 }
            }
            let events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT
            switch try handle.wait(for: Int32(events), until: end, wake: wake) {
            case .ready: break
            case .woken:
                try Task.checkCancellation()
                continue
            case .late: return false
            case .lost: throw refusal(handle)
            }
            state = PQconnectPoll(handle.raw)
            if state == PGRES_POLLING_FAILED { throw refusal(handle) }
        }
        return true
    }

    /// Runs a call of libpq that blocks on a thread of its own; one that is late is left behind with what it holds.
    private func apart<T: Sendable>(_ limit: Duration?, _ body: @escaping @Sendable () throws -> T) throws -> T {
        let call = BlockingCall<T>(done: try WakeUp())
        let thread = Thread { call.finish(Result { try body() }) }
        thread.name = "connect"
        thread.start()
        let end = limit.map { ContinuousClock.now + $0 }
        while true {
            if let result = call.result { return try result.get() }
            let left = end.map { ContinuousClock.now.duration(to: $0) }
            if let left, left <= .zero { throw silence }
            var polls = [
                pollfd(fd: call.done.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            Foundation.poll(&polls, 2, left.map { Int32(clamping: $0.milliseconds + 1) } ?? -1)
            if polls[1].revents != 0 {
                wake.lower()
                try Task.checkCancellation()
            }
        }
    }

    private var silence: PostgresError {
        let seconds = settings.addressTimeout.map { "\($0.components.seconds) s" } ?? "its time"
        return PostgresError(.cannotConnect, "no connection to \(settings.summary) within \(seconds)")
    }

    private func refusal(_ handle: LibpqHandle) -> PostgresError {
        PostgresError(
            .cannotConnect, "cannot connect to \(settings.summary): \(settings.masking(handle.lastError))")
    }
}

/// A call on another thread, and what came of it.
private final class BlockingCall<T: Sendable>: Sendable {
    let done: WakeUp
    private let outcome = Mutex<Result<T, any Error>?>(nil)

    init(done: WakeUp) { self.done = done }

    var result: Result<T, any Error>? { outcome.withLock { $0 } }

    func finish(_ result: Result<T, any Error>) {
        outcome.withLock { $0 = result }
        done.raise()
    }
}

extension ConnectionSettings {
    /// How long one address may take to answer (libpq's `connect_timeout`); nil: as long as it likes.
    var addressTimeout: Duration? {
        let given = parameters["connect_timeout"] ?? ProcessInfo.processInfo.environment["PGCONNECT_TIMEOUT"]
        guard let given else { return connectTimeout }
        guard let seconds = Int32(given.trimmingCharacters(in: .whitespaces)) else { return connectTimeout }
        // libpq's own rule: 0 is for ever, and 1 is too little.
        return seconds > 0 ? .seconds(max(2, seconds)) : nil
    }

    /// For all hosts, each with several addresses, and the resolver.
    var overallTimeout: Duration? { addressTimeout.map { $0 * (4 * hosts.count) + .seconds(30) } }

    private var hosts: [String] {
        let given = parameters["hostaddr"] ?? parameters["host"] ?? ProcessInfo.processInfo.environment["PGHOST"] ?? ""
        return given.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }

    /// Whether a host is to be resolved.
    var hasNamedHosts: Bool {
        parameters["hostaddr"] == nil && hosts.contains { !$0.isEmpty && !$0.hasPrefix("/") && !$0.hasPrefix("@") }
    }

    var mayHaveSeveralAddresses: Bool { hosts.count > 1 || hasNamedHosts }

    /// A text without what is secret here.
    func masking(_ text: String) -> String {
        ["password", "sslpassword"].compactMap { parameters[$0] }.filter { $0.utf8.count > 3 }
            .reduce(text) { $0.substituting($1, with: "********") }
    }
}
