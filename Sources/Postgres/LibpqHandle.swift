import CLibpq
import Foundation
import Processes
import Telemetry

/// A `PGconn` with one owner, finished when the owner lets go.
// @unchecked: used by one thread at a time: that which makes the connection, then the connection's own.
final class LibpqHandle: @unchecked Sendable {
    let raw: OpaquePointer
    private let notices: Unmanaged<NoticeReceiver>

    /// - Throws: `PostgresError` when libpq has no memory for a connection.
    init(parameters: [String: String], logger: Logger) throws {
        var keywords = parameters.keys.map { UnsafePointer(strdup($0)) } + [nil]
        var values = parameters.values.map { UnsafePointer(strdup($0)) } + [nil]
        defer {
            for pointer in keywords + values { free(UnsafeMutablePointer(mutating: pointer)) }
        }
        // What was given as a string or a URL has been read: the name of a database is just that, whatever it looks like.
        guard let raw = PQconnectStartParams(&keywords, &values, 0) else {
            throw PostgresError(.cannotConnect, "no memory for a connection")
        }
        self.raw = raw
        notices = Unmanaged.passRetained(NoticeReceiver(logger))
        PQsetNoticeReceiver(raw, NoticeReceiver.receive, notices.toOpaque())
    }

    deinit {
        PQfinish(raw)
        notices.release()
    }

    /// Which host and address is being connected to.
    var address: String {
        [PQhost(raw), PQhostaddr(raw), PQport(raw)].map { $0.map { String(cString: $0) } ?? "" }
            .joined(separator: " ")
    }

    /// libpq's last error, on one line.
    var lastError: String {
        String(cString: PQerrorMessage(raw)).split(separator: "\n")
            .map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: "; ")
    }

    /// Waits until the socket is ready for one of `events`.
    func wait(for events: Int32, until deadline: ContinuousClock.Instant?, wake: WakeUp?) throws -> Readiness {
        let socket = PQsocket(raw)  // may change while a connection is being made
        guard socket >= 0 else { return .lost }
        while true {
            var timeout: Int32 = -1
            if let deadline {
                let left = ContinuousClock.now.duration(to: deadline)
                if left <= .zero { return .late }
                timeout = Int32(clamping: left.milliseconds + 1)
            }
            var polls = [
                pollfd(fd: socket, events: Int16(events), revents: 0),
                pollfd(fd: wake?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&polls, 2, timeout)
            if count < 0, errno != EINTR {
                throw PostgresError(.connectionLost, "poll: \(String(cString: strerror(errno)))")
            }
            if polls[1].revents != 0 {
                wake?.lower()
                return .woken
            }
            if polls[0].revents != 0 { return .ready }
        }
    }

    enum Readiness { case ready, woken, late, lost }
}

/// Sends the server's notices to the log. libpq calls it on the connection's thread.
private final class NoticeReceiver {
    private let logger: Logger

    init(_ logger: Logger) { self.logger = logger }

    static let receive: PQnoticeReceiver = { context, result in
        guard let context, let result else { return }
        Unmanaged<NoticeReceiver>.fromOpaque(context).takeUnretainedValue().log(result)
    }

    private func log(_ result: OpaquePointer) {
        let message = field(.message, of: result) ?? "notice"
        let fields = [LogField("sqlstate", field(.sqlState, of: result) ?? "")]
        switch field(.severity, of: result) {
        case "WARNING": logger.warning(message, fields)
        case "NOTICE": logger.info(message, fields)
        default: logger.debug(message, fields)
        }
    }

    private func field(_ code: DiagnosticField, of result: OpaquePointer) -> String? { code.text(of: result) }
}

/// Cancels what a connection runs, from a thread of its own.
///
/// A cancel that comes late would hit the next statement, so the connection waits for `finished` before it goes on:
/// `PQcancel` returns after the server has sent the signal, and an idle backend ignores it.
final class CancelRequest: Sendable {
    private let done: WakeUp

    init?(_ connection: LibpqHandle) {
        guard let token = CancelToken(connection), let done = try? WakeUp() else { return nil }
        self.done = done
        let thread = Thread {
            token.cancel()
            done.raise()
        }
        thread.name = "cancel"
        thread.start()
    }

    /// Waits until the server has been told, at most until `deadline`.
    func finished(by deadline: ContinuousClock.Instant) -> Bool {
        var polls = [pollfd(fd: done.descriptor, events: Int16(POLLIN), revents: 0)]
        while true {
            let left = ContinuousClock.now.duration(to: deadline)
            if left <= .zero { return false }
            if poll(&polls, 1, Int32(clamping: left.milliseconds + 1)) > 0 { return true }
        }
    }
}

// @unchecked: libpq documents that PQcancel may be called from any thread, since it only reads the PGcancel.
private final class CancelToken: @unchecked Sendable {
    private let raw: OpaquePointer

    init?(_ connection: LibpqHandle) {
        guard let raw = PQgetCancel(connection.raw) else { return nil }
        self.raw = raw
    }

    deinit { PQfreeCancel(raw) }

    func cancel() {
        var message = [CChar](repeating: 0, count: 256)
        PQcancel(raw, &message, Int32(message.count))
    }
}

/// The fields of an error or notice, by libpq's codes (`PG_DIAG_…` of postgres_ext.h), whose macros Swift does not see.
private enum DiagnosticField: UInt8 {
    case severity = 0x56  // V, not localised
    case sqlState = 0x43  // C
    case message = 0x4D  // M
    case detail = 0x44  // D
    case hint = 0x48  // H
    case position = 0x50  // P
    case context = 0x57  // W
    case schema = 0x73  // s
    case table = 0x74  // t
    case column = 0x63  // c
    case constraint = 0x6E  // n

    func text(of result: OpaquePointer) -> String? {
        PQresultErrorField(result, Int32(rawValue)).map { String(cString: $0) }
    }
}

extension PostgresError {
    /// The error that a result carries.
    init(result: OpaquePointer, kind: Kind = .server) {
        func field(_ code: DiagnosticField) -> String? { code.text(of: result) }
        let message = String(cString: PQresultErrorMessage(result)).trimmingCharacters(in: .whitespacesAndNewlines)
        self.init(kind, field(.message) ?? message, sqlState: field(.sqlState))
        severity = field(.severity)
        detail = field(.detail)
        hint = field(.hint)
        context = field(.context)
        schema = field(.schema)
        table = field(.table)
        column = field(.column)
        constraint = field(.constraint)
        position = field(.position).flatMap { Int($0) }.flatMap { $0 > 0 ? $0 : nil }
    }
}
