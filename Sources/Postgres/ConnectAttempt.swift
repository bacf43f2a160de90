import CLibpq
import Foundation
import Processes
import SQL
import Synchronization
import Telemetry

/// One attempt to connect, on the thread of its `Connection`.
///
/// Host names are resolved first, concurrently, each within the time limit of one address. A name that cannot be
/// resolved is skipped. Then libpq is polled, so that a cancelled task or a time limit ends the attempt immediately.
///
/// One function of libpq blocks: `PQreset`. It is called if one of several hosts or addresses does not answer, because
/// only the blocking function then continues with the next address by itself. It runs on a separate thread, which is
/// abandoned if it takes too long. `connect_timeout`, the order of the hosts and `target_session_attrs` work as in
/// libpq.
struct ConnectAttempt {
    let settings: ConnectionSettings
    let logger: Logger
    var onNotice: (@Sendable (ServerNotice) -> Void)?
    let wake: WakeUp

    /// - Throws: `PostgresError` of kind `cannotConnect` with the reasons that libpq reports; `CancellationError`.
    func connect() throws -> LibpqHandle {
        var parameters = settings.libpqParameters
        var list = try HostList(parameters, logger: logger)
        var unresolved: [String] = []
        if let names = list?.names, !names.isEmpty {
            let answers = try resolve(names)
            for name in names {
                switch answers[name] {
                case .addresses(let addresses): list?.set(addresses, of: name)
                case .failed(let reason):
                    unresolved.append("could not translate host name \"\(name)\" to address: \(reason)")
                    list?.set([], of: name)
                case nil:
                    unresolved.append("could not translate host name \"\(name)\" to address: no answer within \(time)")
                    list?.set([], of: name)
                }
            }
            guard let list, !list.entries.isEmpty else { throw refusal(unresolved) }
            parameters.merge(list.parameters) { $1 }
        }
        let handle = try LibpqHandle(parameters: parameters, logger: logger, onNotice: onNotice)
        guard PQstatus(handle.raw) != CONNECTION_BAD else { throw refusal(unresolved + [handle.lastError]) }
        guard try poll(handle, unresolved) else {
            let count = list?.entries.count ?? 1
            guard count > 1 else { throw silence }
            try apart(settings.addressTimeout.map { $0 * count + .seconds(30) }) { PQreset(handle.raw) }
            guard PQstatus(handle.raw) == CONNECTION_OK else { throw refusal(unresolved + [handle.lastError]) }
            return handle
        }
        return handle
    }

    /// Resolves host names, within the time limit of one address.
    ///
    /// - Returns: the answers that arrived in time, by name.
    private func resolve(_ names: [String]) throws -> [String: HostResolution.Answer] {
        let resolutions = try names.map { ($0, try HostResolution.of($0)) }
        let end = settings.addressTimeout.map { ContinuousClock.now + $0 }
        for (_, resolution) in resolutions {
            _ = try wait(for: resolution.done, until: end) { resolution.answer != nil }
        }
        return resolutions.reduce(into: [:]) { $0[$1.0] = $1.1.answer }
    }

    /// Polls libpq until it has connected.
    ///
    /// - Returns: false if an address did not answer in time.
    private func poll(_ handle: LibpqHandle, _ unresolved: [String]) throws -> Bool {
        var state = PGRES_POLLING_WRITING
        var address = ""
        var end: ContinuousClock.Instant?
        while state != PGRES_POLLING_OK {
            // Each address has its own time limit. If an address refuses, libpq continues with the next one by itself.
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
            case .lost: throw refusal(unresolved + [handle.lastError])
            }
            state = PQconnectPoll(handle.raw)
            if state == PGRES_POLLING_FAILED { throw refusal(unresolved + [handle.lastError]) }
        }
        return true
    }

    /// Runs a blocking function of libpq on a separate thread. If it takes longer than `limit`, the thread is abandoned
    /// together with its resources, and an error is thrown.
    private func apart<T: Sendable>(_ limit: Duration?, _ body: @escaping @Sendable () throws -> T) throws -> T {
        let call = BlockingCall<T>(done: try WakeUp())
        let thread = Thread { call.finish(Result { try body() }) }
        thread.name = "connect"
        thread.start()
        let end = limit.map { ContinuousClock.now + $0 }
        guard try wait(for: call.done, until: end, { call.result != nil }), let result = call.result else {
            throw silence
        }
        return try result.get()
    }

    /// Waits until `isDone` returns true. The other thread raises `done` when `isDone` may have become true.
    ///
    /// - Returns: false if `end` has passed before.
    /// - Throws: `CancellationError`.
    private func wait(
        for done: WakeUp, until end: ContinuousClock.Instant?, _ isDone: () -> Bool
    ) throws -> Bool {
        while !isDone() {
            let left = end.map { ContinuousClock.now.duration(to: $0) }
            if let left, left <= .zero { return false }
            var polls = [
                pollfd(fd: done.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            Foundation.poll(&polls, 2, left.map { Int32(clamping: $0.milliseconds + 1) } ?? -1)
            if polls[1].revents != 0 {
                wake.lower()
                try Task.checkCancellation()
            }
        }
        return true
    }

    /// The time limit for the answer of one address, and for the resolution of one host name, as text for error
    /// messages.
    private var time: String { settings.addressTimeout.map { "\($0.components.seconds) s" } ?? "its time" }

    private var silence: PostgresError {
        PostgresError(.cannotConnect, "no connection to \(settings.summary) within \(time)")
    }

    private func refusal(_ reasons: [String]) -> PostgresError {
        let text = reasons.filter { !$0.isEmpty }.joined(separator: "; ")
        let plain = Self.plain(text)
        return PostgresError(
            .cannotConnect, "cannot connect to \(settings.summary): \(settings.masking(plain))",
            hint: plain == text
                ? nil : "start PostgreSQL there, or correct the address: 'reeve config show' shows its origin")
    }

    /// Replaces what libpq says about an address on which nothing listens by one plain statement.
    static func plain(_ text: String) -> String {
        let port =
            #/connection to server at "([^"]+)"(?: \(([^)]+)\))?, port (\d+) failed: Connection refused(?:[;\s]+Is the server running on that host and accepting TCP/IP connections\?)?/#
        let socket =
            #/connection to server on socket "([^"]+)" failed: (?:No such file or directory|Connection refused)(?:[;\s]+Is the server running locally and accepting connections on that socket\?)?/#
        return text.replacing(port) { match in
            "no server listens on port \(match.3) of \(match.1)" + (match.2.map { " (\($0))" } ?? "")
        }.replacing(socket) { "no server listens on the socket \($0.1)" }
    }
}

/// A call on another thread, and its result.
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
    /// The time within which one address must answer (libpq's `connect_timeout`). nil: no limit.
    var addressTimeout: Duration? {
        let given = parameters["connect_timeout"] ?? ProcessInfo.processInfo.environment["PGCONNECT_TIMEOUT"]
        guard let given else { return connectTimeout }
        guard let seconds = Int32(given.trimmingCharacters(in: .whitespaces)) else { return connectTimeout }
        // The rule of libpq: 0 means no limit, and 1 is raised to 2.
        return seconds > 0 ? .seconds(max(2, seconds)) : nil
    }

    /// Returns a text with the secrets of these settings masked. A secret of up to 3 bytes is masked only where it is a
    /// whole word. If it were masked within a word, the rest of the word would reveal it.
    func masking(_ text: String) -> String {
        let secrets = Self.secretKeywords.compactMap { parameters[$0] }.filter { !$0.isEmpty }
        return secrets.sorted { $0.utf8.count > $1.utf8.count }.reduce(text) { text, secret in
            if secret.utf8.count > 3 { return text.substituting(secret, with: "********") }
            let word = "(?<![\\w])\(NSRegularExpression.escapedPattern(for: secret))(?![\\w])"
            return text.replacingOccurrences(of: word, with: "********", options: .regularExpression)
        }
    }
}
