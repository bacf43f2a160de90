import CLibpq
import Foundation
import Processes
import Telemetry

/// A `PGconn` with one owner. `PQfinish` is called when the owner releases it.
// @unchecked: used by one thread at a time: by the thread that makes the connection, then by the connection's own
// thread.
final class LibpqHandle: @unchecked Sendable {
    let raw: OpaquePointer
    private let notices: Unmanaged<NoticeReceiver>

    /// - Throws: `PostgresError` if libpq has no memory for a connection.
    init(
        parameters: [String: String], logger: Logger, onNotice: (@Sendable (ServerNotice) -> Void)? = nil
    ) throws {
        var keywords = parameters.keys.map { UnsafePointer(strdup($0)) } + [nil]
        var values = parameters.values.map { UnsafePointer(strdup($0)) } + [nil]
        defer {
            for pointer in keywords + values { free(UnsafeMutablePointer(mutating: pointer)) }
        }
        // `expand_dbname` is 0: libpq must not parse the name of a database as a connection string, even if it looks
        // like one.
        guard let raw = PQconnectStartParams(&keywords, &values, 0) else {
            throw PostgresError(.cannotConnect, "out of memory")
        }
        self.raw = raw
        notices = Unmanaged.passRetained(NoticeReceiver(logger, onNotice))
        PQsetNoticeReceiver(raw, NoticeReceiver.receive, notices.toOpaque())
    }

    deinit {
        PQfinish(raw)
        notices.release()
    }

    /// The host, the address and the port that libpq is connecting to.
    var address: String {
        [PQhost(raw), PQhostaddr(raw), PQport(raw)].map { $0.map { String(cString: $0) } ?? "" }
            .joined(separator: " ")
    }

    /// libpq's last error, on one line.
    var lastError: String {
        String(cString: PQerrorMessage(raw)).split(separator: "\n")
            .map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: "; ")
    }

    /// Waits until the socket is ready for one of `events`, `wake` is raised, or the deadline passes.
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

/// A message of the server that is not an error.
public struct ServerNotice: Sendable, Equatable {
    /// WARNING, NOTICE, INFO, DEBUG or LOG.
    public let severity: String
    public let message: String
    public let sqlState: String?
}

/// Sends the server's notices to the log, or to a function. libpq calls the receiver on the connection's thread.
private final class NoticeReceiver {
    private let logger: Logger
    private let onNotice: (@Sendable (ServerNotice) -> Void)?

    init(_ logger: Logger, _ onNotice: (@Sendable (ServerNotice) -> Void)?) {
        self.logger = logger
        self.onNotice = onNotice
    }

    static let receive: PQnoticeReceiver = { context, result in
        guard let context, let result else { return }
        Unmanaged<NoticeReceiver>.fromOpaque(context).takeUnretainedValue().take(result)
    }

    private func take(_ result: OpaquePointer) {
        func field(_ code: DiagnosticField) -> String? { code.text(of: result) }
        let notice = ServerNotice(
            severity: field(.severity) ?? "NOTICE", message: field(.message) ?? "notice", sqlState: field(.sqlState))
        if let onNotice { return onNotice(notice) }
        let fields = [LogField("sqlstate", notice.sqlState ?? "")]
        switch notice.severity {
        case "WARNING": logger.warning(notice.message, fields)
        case "NOTICE": logger.info(notice.message, fields)
        default: logger.debug(notice.message, fields)
        }
    }
}

/// Cancels the running statement of a connection, from a separate thread.
///
/// A late cancel request would hit the next statement. Therefore the connection calls `finished` before it sends
/// another statement: `PQcancel` returns after the server has sent the signal, and an idle backend ignores the signal.
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

    /// Waits until the cancel request has been processed, but no longer than until `deadline`. Returns whether it was
    /// processed.
    func finished(by deadline: ContinuousClock.Instant) -> Bool {
        var polls = [pollfd(fd: done.descriptor, events: Int16(POLLIN), revents: 0)]
        while true {
            let left = ContinuousClock.now.duration(to: deadline)
            if left <= .zero { return false }
            if poll(&polls, 1, Int32(clamping: left.milliseconds + 1)) > 0 { return true }
        }
    }
}

// @unchecked: libpq documents that PQcancel may be called from any thread, because it only reads the PGcancel.
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

/// The fields of an error or notice, by libpq's codes (`PG_DIAG_…` in postgres_ext.h). Swift does not import these
/// macros.
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
    /// Creates the error that a result of libpq describes.
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
